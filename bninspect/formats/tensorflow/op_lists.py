"""What is known of TensorFlow's operations without TensorFlow: which only compute, what their outputs are called."""

from __future__ import annotations

_PURE = """
Abs AccumulateNV2 Acos Acosh Add AddN AddV2 AdjustContrast AdjustContrastv2 AdjustHue AdjustSaturation All Angle
AnonymousHashTable Any ApproximateEqual ArgMax ArgMin AsString Asin Asinh Assert Assign AssignAdd AssignAddVariableOp
AssignSub AssignSubVariableOp AssignVariableOp Atan Atan2 Atanh AudioSpectrogram AvgPool AvgPool3D
BandedTriangularSolve BatchCholesky BatchFFT BatchFFT2D BatchFFT3D BatchIFFT BatchIFFT2D BatchIFFT3D BatchMatMul
BatchMatMulV2 BatchMatMulV3 BatchMatrixBandPart BatchMatrixDeterminant BatchMatrixDiag BatchMatrixDiagPart
BatchMatrixInverse BatchMatrixSetDiag BatchMatrixSolve BatchMatrixSolveLs BatchMatrixTriangularSolve
BatchNormWithGlobalNormalization BatchSelfAdjointEig BatchSelfAdjointEigV2 BatchSvd BatchToSpace BatchToSpaceND
BesselI0 BesselI0e BesselI1 BesselI1e Betainc BiasAdd BiasAddV1 Bincount Bitcast BitwiseAnd BitwiseOr BitwiseXor
BlockLSTM BlockLSTMV2 BroadcastArgs BroadcastGradientArgs BroadcastTo Bucketize Case Cast Ceil CheckNumerics
CheckNumericsV2 Cholesky ClipByValue CombinedNonMaxSuppression Complex ComplexAbs Concat ConcatOffset ConcatV2 Conj
ConjugateTranspose Const ControlTrigger Conv Conv2D Conv2DBackpropInput Conv2DBackpropInputV2 Conv3D
Conv3DBackpropInput Conv3DBackpropInputV2 Cos Cosh CropAndResize Cross Cumprod Cumsum CumulativeLogsumexp
DataFormatDimMap DataFormatVecPermute Dawsn DebugGradientIdentity DecodeAndCropJpeg DecodeBase64 DecodeBmp DecodeCSV
DecodeGif DecodeImage DecodeJpeg DecodePaddedRaw DecodePng DecodeRaw DecodeWav DenseBincount DenseToDenseSetOperation
DenseToSparseSetOperation DepthToSpace DepthwiseConv2dNative DepthwiseConv2dNativeBackpropInput Dequantize Diag
DiagPart Digamma Dilation2D DisableCopyOnRead Div DivNoNan DynamicPartition DynamicStitch EditDistance Eig Einsum Elu
EmptyTensorList EncodeBase64 EnsureShape Enter Equal Erf Erfc Erfinv EuclideanNorm Exit Exp ExpandDims Expint Expm1
ExtractGlimpse ExtractGlimpseV2 ExtractImagePatches ExtractJpegShape ExtractVolumePatches FFT FFT2D FFT3D FFTND
FakeParam FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel Fill Floor FloorDiv
FloorMod FresnelCos FresnelSin FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 FusedPadConv2D FusedResizeAndPadConv2D
GRUBlockCell Gather GatherNd GatherV2 Greater GreaterEqual GuaranteeConst HSVToRGB HashTable HashTableV2
HistogramFixedWidth IFFT IFFT2D IFFT3D IFFTND IRFFT IRFFT2D IRFFT3D IRFFTND Identity IdentityN If Igamma Igammac Imag
ImageProjectiveTransformV2 ImageProjectiveTransformV3 InTopK InTopKV2 InitializeTable InitializeTableV2 Inv Invert
InvertPermutation IsFinite IsInf IsNan IsVariableInitialized L2Loss LRN LSTMBlockCell LeakyRelu LeftShift Less
LessEqual Lgamma LinSpace ListDiff Log Log1p LogMatrixDeterminant LogSoftmax LogicalAnd LogicalNot LogicalOr
LookupTableFind LookupTableFindV2 LookupTableImportV2 LookupTableInsertV2 LookupTableSizeV2 LoopCond LowerBound Lu
MatMul MatrixBandPart MatrixDeterminant MatrixDiag MatrixDiagPart MatrixDiagPartV2 MatrixDiagPartV3 MatrixDiagV2
MatrixDiagV3 MatrixExponential MatrixInverse MatrixLogarithm MatrixSetDiag MatrixSetDiagV2 MatrixSetDiagV3 MatrixSolve
MatrixSolveLs MatrixSquareRoot MatrixTriangularSolve Max MaxPool MaxPool3D MaxPoolV2 MaxPoolWithArgmax Maximum Mean
Merge Mfcc Min Minimum MirrorPad Mod Mul MulNoNan Multinomial MutableHashTableV2 Ndtri Neg NextAfter NextIteration
NoOp NonMaxSuppression NonMaxSuppressionV2 NonMaxSuppressionV3 NonMaxSuppressionV4 NonMaxSuppressionV5
NonMaxSuppressionWithOverlaps NotEqual NthElement OneHot OnesLike Pack Pad PadV2 ParallelConcat ParallelDynamicStitch
ParseExample ParseExampleV2 ParseSequenceExample ParseSequenceExampleV2 ParseSingleExample ParseSingleSequenceExample
PartitionedCall Placeholder PlaceholderV2 PlaceholderWithDefault Polygamma PopulationCount Pow PreventGradient Prod Qr
QuantizeAndDequantize QuantizeAndDequantizeV2 QuantizeAndDequantizeV3 QuantizeAndDequantizeV4 QuantizeV2 RFFT RFFT2D
RFFT3D RFFTND RGBToHSV RaggedFillEmptyRows RaggedGather RaggedRange RaggedTensorFromVariant RaggedTensorToSparse
RaggedTensorToTensor RaggedTensorToVariant RandomGamma RandomPoissonV2 RandomShuffle RandomStandardNormal
RandomUniform RandomUniformInt Range Rank ReadVariableOp Real RealDiv Reciprocal ReduceJoin RefEnter RefExit
RefIdentity RefMerge RefNextIteration RefSelect RefSwitch RegexFullMatch RegexReplace Relu Relu6 Reshape ResizeArea
ResizeBicubic ResizeBilinear ResizeNearestNeighbor ResourceGather ResourceGatherNd Reverse ReverseSequence ReverseV2
RightShift Rint RngReadAndSkip RngSkip Roll Round Rsqrt ScaleAndTranslate ScatterNd SegmentMax SegmentMaxV2
SegmentMean SegmentMin SegmentMinV2 SegmentProd SegmentProdV2 SegmentSum SegmentSumV2 Select SelectV2 SelfAdjointEig
SelfAdjointEigV2 Selu SetSize Shape ShapeN Sigmoid Sign Sin Sinh Size Slice Snapshot Softmax
SoftmaxCrossEntropyWithLogits Softplus Softsign SpaceToBatch SpaceToBatchND SpaceToDepth SparseAdd SparseBincount
SparseConcat SparseDenseCwiseAdd SparseDenseCwiseDiv SparseDenseCwiseMul SparseFillEmptyRows SparseMatMul
SparseReduceMax SparseReduceMaxSparse SparseReduceSum SparseReduceSumSparse SparseReorder SparseReshape
SparseSegmentMean SparseSegmentMeanWithNumSegments SparseSegmentSqrtN SparseSegmentSqrtNWithNumSegments
SparseSegmentSum SparseSegmentSumWithNumSegments SparseSlice SparseSoftmax SparseSoftmaxCrossEntropyWithLogits
SparseSparseMaximum SparseSparseMinimum SparseSplit SparseTensorDenseAdd SparseTensorDenseMatMul SparseToDense
SparseToSparseSetOperation Spence Split SplitV Sqrt Square SquaredDifference Squeeze StackCloseV2 StackPopV2
StackPushV2 StackV2 StatefulPartitionedCall StatefulStandardNormalV2 StatefulTruncatedNormal StatefulUniform
StatefulUniformInt StatelessCase StatelessIf StatelessMultinomial StatelessParameterizedTruncatedNormal
StatelessRandomBinomial StatelessRandomGammaV2 StatelessRandomGammaV3 StatelessRandomGetAlg
StatelessRandomGetKeyCounter StatelessRandomGetKeyCounterAlg StatelessRandomNormal StatelessRandomNormalV2
StatelessRandomPoisson StatelessRandomUniform StatelessRandomUniformFullInt StatelessRandomUniformFullIntV2
StatelessRandomUniformInt StatelessRandomUniformIntV2 StatelessRandomUniformV2 StatelessShuffle
StatelessTruncatedNormal StatelessTruncatedNormalV2 StatelessWhile StaticRegexFullMatch StaticRegexReplace
StopGradient StridedSlice StringFormat StringJoin StringLength StringLower StringNGrams StringSplit StringSplitV2
StringStrip StringToHashBucket StringToHashBucketFast StringToHashBucketStrong StringToNumber StringUpper Sub Substr
Sum Svd Switch Tan Tanh TensorArrayCloseV3 TensorArrayConcatV3 TensorArrayGatherV3 TensorArrayReadV3
TensorArrayScatterV3 TensorArraySizeV3 TensorArraySplitV3 TensorArrayV3 TensorArrayWriteV3 TensorListConcat
TensorListConcatLists TensorListConcatV2 TensorListElementShape TensorListFromTensor TensorListGather
TensorListGetItem TensorListLength TensorListPopBack TensorListPushBack TensorListPushBackBatch TensorListReserve
TensorListResize TensorListScatter TensorListScatterIntoExistingList TensorListScatterV2 TensorListSetItem
TensorListSplit TensorListStack TensorScatterAdd TensorScatterMax TensorScatterMin TensorScatterSub
TensorScatterUpdate TensorStridedSliceUpdate Tile TopK TopKV2 Transpose TridiagonalSolve TruncateDiv TruncateMod
TruncatedNormal UnicodeDecode UnicodeDecodeWithOffsets UnicodeEncode UnicodeScript UnicodeTranscode Unique UniqueV2
UniqueWithCounts UniqueWithCountsV2 Unpack UnravelIndex UnsortedSegmentJoin UnsortedSegmentMax UnsortedSegmentMin
UnsortedSegmentProd UnsortedSegmentSum UpperBound VarHandleOp VarIsInitializedOp Variable VariableShape VariableV2
Where While Xdivy Xlog1py Xlogy ZerosLike Zeta
"""
PURE = frozenset(_PURE.split())
"""Operations that compute from their inputs, from variables, or from random numbers, and touch nothing else.

An allowlist: whatever is not on it may read or write files, print, run Python or reach other machines, as far as we
know. Variables may be assigned, tables in memory filled.
"""

# Functions name an output of a node by its argument, graphs by its position.
_OUTPUTS = {
    "audio sample_rate": "DecodeWav",
    "e v": "BatchSelfAdjointEigV2 Eig SelfAdjointEigV2",
    "handle flow": "TensorArrayV3",
    "i cs f o ci co h": "BlockLSTM BlockLSTMV2 LSTMBlockCell",
    "indices values shape": "StringSplit StringSplitV2",
    "key counter": "StatelessRandomGetKeyCounter",
    "key counter alg": "StatelessRandomGetKeyCounterAlg",
    "loss backprop": "SoftmaxCrossEntropyWithLogits SparseSoftmaxCrossEntropyWithLogits",
    "lu p": "Lu",
    "ngrams ngrams_splits": "StringNGrams",
    "nmsed_boxes nmsed_scores nmsed_classes valid_detections": "CombinedNonMaxSuppression",
    "out idx": "ListDiff",
    "output argmax": "MaxPoolWithArgmax",
    "output output_min output_max": "QuantizeV2",
    "output value_index": "Merge RefMerge",
    "output_false output_true": "RefSwitch Switch",
    "output_handle tensor": "TensorListPopBack",
    "output_indices output_shape": "SparseReshape",
    "output_indices output_values": "SparseReorder SparseSparseMaximum SparseSparseMinimum",
    "output_indices output_values empty_row_indicator reverse_index_map": "SparseFillEmptyRows",
    "output_indices output_values output_shape": "SparseConcat SparseReduceMaxSparse SparseReduceSumSparse SparseSlice",
    "output_value_rowids output_values empty_row_indicator reverse_index_map": "RaggedFillEmptyRows",
    "q r": "Qr",
    "r u c h": "GRUBlockCell",
    "r0 r1": "BroadcastGradientArgs",
    "result_indices result_values result_shape": (
        "DenseToDenseSetOperation DenseToSparseSetOperation SparseToSparseSetOperation"
    ),
    "row_splits char_values": "UnicodeDecode",
    "row_splits char_values char_to_byte_starts": "UnicodeDecodeWithOffsets",
    "rt_nested_splits rt_dense_values": "RaggedRange",
    "s u v": "BatchSvd Svd",
    "selected_indices selected_scores valid_outputs": "NonMaxSuppressionV5",
    "selected_indices valid_outputs": "NonMaxSuppressionV4",
    "sign log_abs_determinant": "LogMatrixDeterminant",
    "sparse_indices sparse_values sparse_dense_shape": "RaggedTensorToSparse",
    "sum_indices sum_values sum_shape": "SparseAdd",
    "tensor lengths": "TensorListConcat TensorListConcatV2",
    "value lengths": "TensorArrayConcatV3",
    "values indices": "TopK TopKV2",
    "y batch_mean batch_variance reserve_space_1 reserve_space_2": "FusedBatchNorm FusedBatchNormV2",
    "y batch_mean batch_variance reserve_space_1 reserve_space_2 reserve_space_3": "FusedBatchNormV3",
    "y idx": "Unique UniqueV2",
    "y idx count": "UniqueWithCounts UniqueWithCountsV2",
}
OUTPUTS = {op: names.split() for names, ops in _OUTPUTS.items() for op in ops.split()}
"""The output arguments of operations that have several, each of one tensor."""

CALLS = frozenset(("PartitionedCall", "StatefulPartitionedCall"))
"""Operations that call the function in their attribute `f`."""

_DRAWING = """
Multinomial RandomGamma RandomPoissonV2 RandomShuffle RandomStandardNormal RandomUniform RandomUniformInt
StatefulStandardNormalV2 StatefulTruncatedNormal StatefulUniform StatefulUniformInt TruncatedNormal
"""
DRAWING = frozenset(_DRAWING.split())
"""Those of the pure operations that draw random numbers: no two runs are alike."""

CALLING = CALLS | {"If", "StatelessIf", "Case", "StatelessCase", "While", "StatelessWhile"}
"""Those of the pure operations that have functions among their attributes."""
