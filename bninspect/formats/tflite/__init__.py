"""TFLite models, read without TensorFlow or LiteRT: a flatbuffer of tensors and operators."""
