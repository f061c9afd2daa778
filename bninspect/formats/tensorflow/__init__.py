"""Everything that TensorFlow writes, read without TensorFlow: SavedModels, frozen graphs and checkpoints.

From the bytes upwards:

protobuf, crc32c, table, ordered_code   the encodings
tensor, bundle, slices                  arrays in a graph, in a checkpoint, in a checkpoint of before 2017
graph, functions, ops                   nodes, functions, signatures; which operations only compute
frames, conditionals, flatten           the flat graph that a signature computes at inference
algebra, expressions                    what its tensors are in terms of parameters
sites, fused, spelt_out, graph_norms    where in it are batch norms
object_graph, keras, names              what the objects and variables around them are called
variables, layers, stored, model, code  one graph with its values, the layers in it, what else it would do
saved_model, frozen, checkpoint         the formats
"""
