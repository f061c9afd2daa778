"""OpenVINO IR, read without OpenVINO: layers and edges in XML, constants in a flat file beside it."""
