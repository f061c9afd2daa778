"""Everything that TensorFlow writes, read without TensorFlow: SavedModels, frozen graphs and checkpoints.

From the bytes upwards:

protobuf, crc32c, table     the encodings
tensor, bundle, slices      arrays in a graph, in a checkpoint, in a checkpoint of before 2017
graph, flatten              nodes and functions; the flat graph that a signature computes at inference
algebra, graph_norms        where in it are batch norms, fused or spelt out
object_graph, keras, names  what the objects and variables around them are called
model, layers               one graph with its variables, and the layers in it
saved_model, frozen, checkpoint     the formats
"""
