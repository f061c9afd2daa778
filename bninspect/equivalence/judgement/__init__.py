"""The verdict on an export: one pure function of the numbers, the evidence and the diagnoses."""
