"""Names in a Keras configuration that stand for pure computation. What is not here counts as code (keras_code.py).

From the public names of Keras 1.2, 2.2 and 3.15, tf.keras of TensorFlow 1.13 to 2.15, and tf_keras 2.21. Left out on
purpose, because they run Python or other models or open files: Lambda, TFSMLayer, TorchModuleWrapper, JaxLayer,
FlaxLayer, DenseFeatures, SequenceFeatures, ClassMethod, InstanceMethod, and Keras 3's Map, Scan, Cond, WhileLoop ...
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MODELS = _words("Functional Model Sequential")

LOOKUPS = _words("IndexLookup IntegerLookup StringLookup TextVectorization")
"""Pure as long as their vocabulary is a list and not the name of a file."""

LAYERS = _words(
    """
    AbstractRNNCell Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D
    AdaptiveAveragePooling3D AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add AddLoss AddMetric
    AdditiveAttention AlphaDropout AtrousConvolution1D AtrousConvolution2D Attention AugMix AutoContrast Average
    AveragePooling1D AveragePooling2D AveragePooling3D AvgPool1D AvgPool2D AvgPool3D BatchNormalization
    BatchNormalizationV1 BatchNormalizationV2 Bidirectional CategoryEncoding CenterCrop Concatenate
    ContrastLimitedAdaptiveHistogramEqualization Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D
    Conv3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM2DCell ConvLSTM3D ConvRNN2D ConvRecurrent2D Convolution1D
    Convolution1DTranspose Convolution2D Convolution2DTranspose Convolution3D Convolution3DTranspose Cropping1D
    Cropping2D Cropping3D CuDNNGRU CuDNNLSTM CutMix Deconvolution2D Deconvolution3D Dense DepthwiseConv1D
    DepthwiseConv2D Discretization Dot Dropout ELU EinsumDense Embedding Equalization Flatten GRU GRUCell GRUCellV1
    GRUCellV2 GRUV1 GRUV2 GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D
    GlobalAveragePooling3D GlobalAvgPool1D GlobalAvgPool2D GlobalAvgPool3D GlobalMaxPool1D GlobalMaxPool2D
    GlobalMaxPool3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization GroupQueryAttention
    GroupedQueryAttention HashedCrossing Hashing Highway Identity InputLayer LSTM LSTMCell LSTMCellV1 LSTMCellV2
    LSTMV1 LSTMV2 Layer LayerNormalization LeakyReLU LinearModel LocallyConnected1D LocallyConnected2D Masking
    MaxNumBoundingBoxes MaxPool1D MaxPool2D MaxPool3D MaxPooling1D MaxPooling2D MaxPooling3D Maximum MaxoutDense
    MelSpectrogram Merge Minimum MixUp MultiHeadAttention Multiply Normalization PReLU ParametricSoftplus Permute
    Pipeline RMSNormalization RNN RandAugment RandomBrightness RandomColorDegeneration RandomColorJitter
    RandomContrast RandomCrop RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale
    RandomHeight RandomHue RandomInvert RandomPerspective RandomPosterization RandomRotation RandomSaturation
    RandomSharpness RandomShear RandomTranslation RandomWidth RandomZoom ReLU Recurrent RepeatVector Rescaling
    Reshape Resizing ReversibleEmbedding SReLU STFTSpectrogram SeparableConv1D SeparableConv2D
    SeparableConvolution1D SeparableConvolution2D SimpleRNN SimpleRNNCell SlicingOpLambda Softmax Solarization
    SpatialDropout1D SpatialDropout2D SpatialDropout3D SpectralNormalization StackedRNNCells Subtract
    SyncBatchNormalization TFOpLambda TensorFlowOpLayer ThresholdedLinear ThresholdedReLU TimeDistributed
    TimeDistributedDense UnitNormalization UpSampling1D UpSampling2D UpSampling3D WideDeepModel Wrapper
    ZeroPadding1D ZeroPadding2D ZeroPadding3D
    """
)

OPERATIONS = _words(
    """
    Abs Absolute AdaptiveAveragePool AdaptiveMaxPool AffineTransform All AllClose Amax Amin Angle Any Append Arange
    Arccos Arccosh Arcsin Arcsinh Arctan Arctan2 Arctanh Argmax Argmin Argpartition Argsort Array ArraySplit
    AveragePool BatchNorm BinaryCrossentropy Bincount BitwiseAnd BitwiseInvert BitwiseLeftShift BitwiseNot BitwiseOr
    BitwiseRightShift BitwiseXor BroadcastTo CDist CTCDecode CTCLoss Cast CategoricalCrossentropy Cbrt Ceil Celu
    Cholesky CholeskyInverse Clip Conj Conjugate Conv ConvTranspose ConvertToTensor Copy Corrcoef Correlate Cos Cosh
    CountNonzero CropImages Cross Cumprod Cumsum Deg2rad DepthToSpace DepthwiseConv Det Diag Diagflat Diagonal Diff
    Digitize Divide DivideNoNan DotProductAttention Dsplit Dstack Eig Eigh Einsum ElasticTransform Elu EmptyLike
    Equal Erf Erfc Erfinv Exp Exp2 ExpandDims Expm1 ExtractPatches ExtractSequences FFT FFT2 Fabs Flip Fliplr Flipud
    Floor FloorDivide Fmax Fmin Fmod Fold Full FullLike GaussianBlur Gcd Gelu Geomspace GetItem Glu Greater
    GreaterEqual HSVToRGB HardShrink HardSigmoid HardSilu HardTanh Heaviside Histogram Hsplit Hstack Hypot I0 IFFT2
    IRFFT ISTFT Imag InTopK Inner Inv IsIn Isclose Isfinite Isinf Isnan Isneginf Isposinf Isreal Kron LayerNorm Lcm
    Ldexp LeakyRelu LeftShift Less LessEqual Linspace Log Log10 Log1p Log2 LogSigmoid LogSoftmax Logaddexp
    Logaddexp2 Logdet LogicalAnd LogicalNot LogicalOr LogicalXor Logspace Logsumexp Lstsq LuFactor MapCoordinates
    Matmul MatrixRank Max MaxPool Mean Median Meshgrid Min Mod Moments Moveaxis MultiHot NanToNum Nanargmax
    Nanargmin Nancumprod Nancumsum Nanmax Nanmean Nanmedian Nanmin Nanpercentile Nanprod Nanquantile Nanstd Nansum
    Nanvar Ndim Negative Nextafter Nonzero Norm Normalize NotEqual OneHot OnesLike Outer PSNR Pad PadImages
    Percentile PerspectiveTransform Pinv Polar Power Prod Ptp Qr Quantile RFFT RGBToGrayscale RGBToHSV RMSNorm
    Rad2deg Ravel Real Rearrange Reciprocal Relu Relu6 Repeat Resize RightShift Roll Rot90 Round Rsqrt SSIM STFT SVD
    SaturateCast ScaleAndTranslate Scatter ScatterUpdate SearchSorted SegmentMax SegmentMin SegmentProd SegmentSum
    Select Selu SeparableConv Sigmoid Sign Signbit Silu Sin Sinc Sinh Size Slice SliceUpdate Slogdet SobelEdges
    SoftShrink Softplus Softsign Solve SolveTriangular Sort SpaceToDepth SparseCategoricalCrossentropy SparsePlus
    SparseSigmoid Sparsemax Split Sqrt Square Squareplus Squeeze Stack Std StopGradient Sum Swapaxes Take
    TakeAlongAxis Tan Tanh TanhShrink Tensordot Threshold Tile TopK Trace Transpose Trapezoid Tril Triu TrueDivide
    Trunc Unfold Unique UnravelIndex Unstack Vander Var Vdot View ViewAsComplex ViewAsReal Vsplit Vstack Where
    ZerosLike
    """
)
"""Keras 3 stores `x * 2 + 1` of a functional model as layers of these classes; in HDF5 without their module."""

OBJECTS = _words(
    """
    AUC AWQDTypePolicy AbsMaxQuantizer Accuracy ActivityRegularizer Adadelta Adafactor Adagrad Adam AdamW Adamax
    BinaryAccuracy BinaryFocalCrossentropy BinaryIoU CTC CategoricalAccuracy CategoricalFocalCrossentropy
    CategoricalHinge Circle Constant Constraint CosineDecay CosineDecayRestarts CosineSimilarity DTypePolicy
    DTypePolicyMap Dice EigenvalueRegularizer ExponentialDecay F1Score FBetaScore FalseNegatives FalsePositives
    Float8QuantizationConfig FloatDTypePolicy Ftrl GPTQDTypePolicy GlorotNormal GlorotUniform HeNormal HeUniform
    Hinge Huber IdentityInitializer Initializer Int4DTypePolicy Int4QuantizationConfig Int8QuantizationConfig
    InverseTimeDecay IoU KLDivergence L1 L1L2 L2 Lamb LecunNormal LecunUniform Lion LogCosh LogCoshError
    LossScaleOptimizer MaxNorm MeanAbsoluteError MeanAbsolutePercentageError MeanIoU MeanMetricWrapper
    MeanSquaredError MeanSquaredLogarithmicError MinMaxNorm Muon Nadam NonNeg OneHotIoU OneHotMeanIoU Ones
    Orthogonal OrthogonalInitializer OrthogonalRegularizer PiecewiseConstantDecay Poisson Policy PolicyV1
    PolynomialDecay Precision PrecisionAtRecall QuantizationConfig QuantizedDTypePolicy QuantizedFloat8DTypePolicy
    R2Score RMSprop RadialConstraint RandomNormal RandomUniform Recall RecallAtPrecision Regularizer
    RootMeanSquaredError SGD STFTInitializer SensitivityAtSpecificity SparseCategoricalAccuracy
    SparseTopKCategoricalAccuracy SpecificityAtSensitivity SquaredHinge TensorShape TopKCategoricalAccuracy
    TrueNegatives TruePositives TruncatedNormal Tversky UnitNorm VarianceScaling WeightRegularizer Zeros __bytes__
    __complex__ __ellipsis__ __keras_tensor__ __numpy__ __slice__ __tensor__ __tuple__ glorot_normal glorot_uniform
    he_normal he_uniform lecun_normal lecun_uniform
    """
)
"""Initializers, regularizers, constraints, dtype policies, optimizers, losses, metrics, and plain values."""

ACTIVATIONS = _words(
    """
    ELU LeakyReLU PReLU ReLU Softmax ThresholdedReLU celu elu exponential gelu glu hard_shrink hard_sigmoid
    hard_silu hard_swish hard_tanh leaky_relu linear log_sigmoid log_softmax mish relu relu6 selu sigmoid silu
    soft_shrink softmax softplus softsign sparse_plus sparse_sigmoid sparsemax squareplus swish tanh tanh_shrink
    threshold
    """
)

TF_MODULES = _words(
    "__operators__ bitwise dtypes image linalg math nn quantization ragged random sets signal sparse strings"
)
"""All functions directly within these modules of the TensorFlow API compute and do nothing else."""

TF_FUNCTIONS = _words(
    """
    abs acos acosh add add_n argmax argmin argsort asin asinh atan atan2 atanh batch_to_space batch_to_space_nd
    bitcast boolean_mask broadcast_to cast ceil clip_by_global_norm clip_by_norm clip_by_value complex concat
    constant convert_to_tensor cos cosh cumsum depth_to_space div divide dynamic_partition dynamic_stitch einsum
    ensure_shape equal exp expand_dims extract_image_patches extract_volume_patches eye fill floor floordiv floormod
    gather gather_nd greater greater_equal identity identity_n is_finite is_inf is_nan less less_equal linspace log
    log1p logical_and logical_not logical_or logical_xor matmul maximum meshgrid minimum mod multiply negative norm
    not_equal one_hot ones ones_like pad pow range rank realdiv reciprocal reduce_all reduce_any reduce_logsumexp
    reduce_max reduce_mean reduce_min reduce_prod reduce_sum repeat reshape reverse reverse_sequence rint roll round
    rsqrt saturate_cast scalar_mul scatter_nd searchsorted sequence_mask shape shape_n sigmoid sign sin sinh size
    slice sort space_to_batch space_to_batch_nd space_to_depth split sqrt square squared_difference squeeze stack
    stop_gradient strided_slice subtract tan tanh tensor_scatter_nd_add tensor_scatter_nd_max tensor_scatter_nd_min
    tensor_scatter_nd_sub tensor_scatter_nd_update tensordot tile transpose truediv truncatediv truncatemod unique
    unstack where zeros zeros_like
    """
)
"""Of the functions directly in `tf`, those that compute and do nothing else."""

TF_OPS = _words(
    """
    Abs Add AddN AddV2 All Any ArgMax ArgMin AvgPool BatchMatMul BatchMatMulV2 BatchToSpaceND BiasAdd BroadcastTo
    Cast Ceil ClipByValue ConcatV2 Const Conv2D Cos Cosh Cumsum DepthToSpace DepthwiseConv2dNative Div DivNoNan
    Einsum Elu Equal Erf Exp ExpandDims Expm1 ExtractImagePatches Fill Floor FloorDiv FloorMod GatherNd GatherV2
    Greater GreaterEqual Identity Inv L2Loss LRN LeakyRelu Less LessEqual Log Log1p LogSoftmax LogicalAnd LogicalNot
    LogicalOr MatMul Max MaxPool Maximum Mean Min Minimum MirrorPad Mul Neg NotEqual OneHot OnesLike Pack Pad PadV2
    Pow Prod Range Rank RealDiv Reciprocal Relu Relu6 Reshape ResizeBicubic ResizeBilinear ResizeNearestNeighbor
    ReverseV2 Round Rsqrt Select SelectV2 Selu Shape Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign
    SpaceToBatchND SpaceToDepth Split SplitV Sqrt Square SquaredDifference Squeeze StopGradient StridedSlice Sub Sum
    Tan Tanh Tile TopKV2 Transpose Unpack Where ZerosLike
    """
)
"""Names of graph operations, which TensorFlow 1.15 to 2.3 store in TensorFlowOpLayer."""

CLASSES = MODELS | LOOKUPS | LAYERS | OPERATIONS | OBJECTS
