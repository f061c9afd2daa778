"""What `bninspect/formats/torch/pure_operators.py` lists, from the schemas of the installed torch.

    PYTHONPATH=tests python -m helpers.torch_operators     writes its lists anew

Of ATen's operators it takes those that are given tensors, numbers, texts and lists of these and give the like back.
What opens files, prints, talks to other processes, gives memory of another tensor away or is a vendor's or a sparse
kernel is left out by name: the schema does not tell. `warn` is not: torch's warnings are ignored while it runs.
"""

from __future__ import annotations

import re
import textwrap
from collections import defaultdict
from pathlib import Path

LIST = Path(__file__).parents[2] / "bninspect" / "formats" / "torch" / "pure_operators.py"
_FOREIGN = re.compile(r"RRef|Storage|Stream|Future|Await|Generator|__torch__(?!\.torch\.classes\.quantized)|PyObject")
_LEFT_OUT = re.compile(
    r"save|from_file|.*print|.*backward.*|.*sparse.*|.*_coo.*|.*csr.*|fbgemm_.*|mkldnn_.*|miopen_conv.*|miopen_rnn"
    r"|cudnn_conv.*|.*resize.*|set|set_data|set_|.*seed|has_torch_function|requires_grad_|retain_grad"
    r"|grad|get_gradients|record_stream|pin_memory|quantized_(gru|lstm|rnn).*|miopen_(depth|ctc).*"
)
_PRIVATE = """
__and__ __contains__ __derive_index __getitem__ __iand__ __ilshift__ __interpolate __ior__ __irshift__ __is__ __isnot__
__ixor__ __lshift__ __not__ __or__ __range_length __round_to_zero_floordiv __rshift__ __upsample __upsample_bilinear
__upsample_nearest __xor__ _adaptive_avg_pool2d _adaptive_avg_pool3d _add_relu _add_relu_ _addmm_activation _aminmax
_assert_async _assert_scalar _assert_tensor_metadata _autocast_to_full_precision _autocast_to_reduced_precision
_batch_norm_impl_index _batch_norm_no_update _batch_norm_with_update _batch_norm_with_update_functional _cast_Byte
_cast_Char _cast_Double _cast_Float _cast_Half _cast_Int _cast_Long _cast_Short _cdist_forward _conj_physical
_conv_depthwise2d _convolution _convolution_mode _embedding_bag _euclidean_dist
_fake_quantize_learnable_per_channel_affine _fake_quantize_learnable_per_tensor_affine
_fake_quantize_per_tensor_affine_cachemask_tensor_qparams _fft_c2c _fft_c2r _fft_r2c _functional_assert_async
_functional_assert_scalar _functional_sym_constrain_range _functional_sym_constrain_range_for_size
_grid_sampler_2d_cpu_fallback _infer_size _is_all_true _is_any_true _list_to_tensor _local_scalar_dense _log_softmax
_logcumsumexp _native_batch_norm_legit _native_batch_norm_legit_functional _native_batch_norm_legit_no_training
_native_multi_head_attention _no_grad_fill_ _no_grad_normal_ _no_grad_uniform_ _no_grad_zero_ _pack_padded_sequence
_pad_circular _pad_enum _pad_packed_sequence _prelu_kernel _reshape_copy _safe_softmax
_scaled_dot_product_attention_math _scaled_dot_product_flash_attention_for_cpu _set_item _shape_as_tensor
_size_if_not_equal _softmax _stack _tensor_to_list _thnn_fused_gru_cell _thnn_fused_lstm_cell _to_copy
_transform_bias_rescale_qkv _transformer_encoder_layer_fwd _trilinear _unique _unique2 _unsafe_index
_unsafe_index_put _unsafe_masked_index _unsafe_view _unwrap_optional _upsample_bicubic2d_aa _upsample_bilinear2d_aa
_upsample_lanczos2d_aa
_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d _weight_norm _weight_norm_interface
"""
_PRIM = """
ChunkSizes ConstantChunk EnumName EnumValue IfThenElse NumToTensor RaiseException StringIndex TupleIndex TupleUnpack
Uninitialized VarConcat VarStack abs data device dtype index is_cpu is_cuda is_meta is_mkldnn is_mps is_nested
is_quantized is_sparse itemsize layout max min name nbytes rangelist requires_grad tolist type unchecked_cast
unchecked_unwrap_optional
"""


def pure() -> dict[str, list[str]]:
    """Return the pure operators of the installed torch, by namespace."""
    import torch
    from torch import _prims

    schemas = defaultdict(list)
    for schema in torch._C._jit_get_all_schemas():
        schemas[schema.name].append(schema)
    found: dict[str, list[str]] = defaultdict(list)
    for qualified, overloads in schemas.items():
        namespace, _, name = qualified.partition("::")
        if namespace == "prim" and name in _PRIM.split():
            found[namespace].append(name)
        if namespace not in {"aten", "prims", "quantized"} or _LEFT_OUT.fullmatch(name):
            continue
        if namespace == "prims" and name not in _prims.__all__:
            continue  # of torch's compiler, there only where something has loaded that
        types = [str(part.type) for schema in overloads for part in (*schema.arguments, *schema.returns)]
        private = name.startswith("_") and (namespace != "aten" or name not in _PRIVATE.split())
        if not private and not any(_FOREIGN.search(kind) for kind in types if kind != "Optional[Generator]"):
            found[namespace].append(name)
    return {namespace: sorted(names) for namespace, names in found.items()}


def main() -> None:
    """Write the lists anew."""
    text = LIST.read_text()
    for namespace, names in pure().items():
        wrapped = "\n".join(textwrap.wrap(" ".join(names), 119, break_long_words=False, break_on_hyphens=False))
        text = re.sub(rf'(_{namespace.upper()} = """\n).*?("""\n)', rf"\g<1>{wrapped}\n\g<2>", text, flags=re.DOTALL)
    LIST.write_text(text)


if __name__ == "__main__":
    main()
