"""What the compilers said, pasted from real compilations (jax 0.10.2 and 0.12.0)."""

SCOPED_VMEM = """\
RESOURCE_EXHAUSTED: E1001: CompileTimeScopedVmemOom:
Ran out of memory in memory space vmem while allocating on stack for %big.1 = \
f32[4096,4096]{1,0:T(8,128)} custom-call(%x.2, %w.2), \
custom_call_target="tpu_custom_call", operand_layout_constraints={bf16[4096,4096]\
{1,0}, bf16[4096,4096]{1,0}}, frontend_attributes={kernel_metadata={}}, \
metadata={op_name="jit(big)/pallas_call" stack_frame_id=3}. Scoped allocation with \
size 96.00M and limit 16.00M exceeded scoped vmem limit by 80.00M. It should not be \
possible to run out of scoped vmem -
See https://openxla.org/xla/errors/error_1001 for more details."""

WINDOW = """\
RESOURCE_EXHAUSTED: Allocation (size=67108864) would exceed memory (size=16777216) :: \
#allocation2 [shape = 'u8[67108864]{0}', space=vmem, size = 0x4000000, scoped, \
tag = 'input window allocation for operator input 0. The window shape is \
f32[4096,2048], while the full shape is f32[8192,2048]. The u8 shape/size shown above \
represents the raw byte size of this window in VMEM. This allocation has 2 buffering \
levels.'] :: fastoom.1"""

SMEM_SCRATCH = """\
RESOURCE_EXHAUSTED: Allocation (size=8388608) would exceed memory (size=1048576) :: \
#allocation3 [shape = 's32[1024,2048]{1,0:T(8,128)}', space=smem, size = 0x800000, \
scoped, tag = 'scratch operand'] :: smem.1"""

SMEM_USED = """\
RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space \
smem. Used 2.29M of 1.00M smem. Exceeded smem capacity by 1.29M.

Program smem requirement 2.29M:
    scoped            2.29M

  Largest program allocations in smem:

  1. Size: 781.5K
     Operator: op_name="jit(smem2)/pallas_call"
     Shape: u8[800256]{0}
     Unpadded size: 781.5K
     Tag: prefetched SMEM operand 0
     XLA label: smem2.1 = custom-call(a.2, b.2, c.2, x.2)
     Allocation type: scoped
     =========================="""

HBM_OLD = """\
RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO \
temporaries (64.00G) exceeds available HBM (30.75G)."""

HBM = """\
RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total \
memory required for HLO temporaries (64.00G) exceeds available HBM (15.75G). HLO \
module: jit_hbm.
See https://openxla.org/xla/errors/error_1000 for more details."""

RESHAPE = """\
INTERNAL: Mosaic failed to compile TPU kernel with MLIR module name `k` HLO name \
`roll.1`: infer-vector-layout: unsupported shape cast

The MLIR operation involved:
  %263 = "tpu.reshape"(%262) : (vector<3x128x7xf32>) -> vector<7x384xf32>

Please report a bug at: https://github.com/jax-ml/jax/issues/new/choose
"""

INT8_ON_V4 = """\
INTERNAL: Mosaic failed to compile TPU kernel: E2001: \
CompileTimeMosaicUnsupportedRhsType: Unsupported matmul RHS type on target: \
vector<128x128xi8>
See https://openxla.org/xla/errors/error_2001 for more details.

The MLIR operation involved:
  %3988 = "tpu.matmul"(%3977, %3985, %3987) <{transpose_lhs = false, \
transpose_rhs = false}> : (vector<512x128xi8>, vector<128x128xi8>, \
vector<512x128xi32>) -> vector<512x128xi32>
... additional diagnostics were skipped.

Please report a bug at: https://github.com/jax-ml/jax/issues/new/choose
"""

SORT = (
    "Unimplemented primitive in Pallas TPU lowering for tc: sort. Please file an issue "
    "at https://github.com/jax-ml/jax/issues/new/choose."
)

BLOCK_SHAPE = """\
The Pallas TPU lowering currently requires that the last two dimensions of your block \
shape are divisible by 8 and 128 respectively, or be equal to the respective \
dimensions of the overall array. Block spec for args[0] in pallas_call mm_kernel at \
<source>:6 has block shape (Blocked(block_size=100), Blocked(block_size=512)), array \
shape (400, 512), and index_map { lambda ; a:i32[] b:i32[]. let  in (a, 0:i32[]) }, in \
memory space <MemorySpace.DEFAULT: 'default'>.
See details at https://docs.jax.dev/en/latest/pallas/grid_blockspec.html\
#pallas-blockspec"""

BAD_FLAG = """\
WARNING: Logging before InitGoogle() is written to STDERR
=== Source Location Trace: ===
learning/45eac/tfrc/runtime/libtpu_init_utils.cc:370
ERROR: Unknown command line flag 'nonsense'
"""

ABORT = """\
PC: @     0x7f9cba2a8eec  (unknown)  (unknown)
    @     0x7f9ca0100137       1888  FailureSignalHandler()
E1124 03:20:49.202484    2270 coredump_hook.cc:309] RAW: Remote crash data gathering \
hook invoked.
E1124 03:20:49.325511    2270 process_state.cc:794] RAW: Raising signal 6 with default \
behavior
"""
