import { expect, test } from 'vitest';
import { instructions, parameters, resources } from './machine-code.mjs';
import { differences, faults, table } from './report.mjs';

const log = `
ptxas info    : 24 bytes gmem, 48 bytes cmem[4]
ptxas info    : Compiling entry function 'few_rows_q4m' for 'sm_80'
ptxas info    : Function properties for few_rows_q4m
ptxas         .     16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 48 registers, used 1 barriers, 2048 bytes smem, 368 bytes cmem[0]
ptxas info    : Compiling entry function 'fill_u32' for 'sm_80'
ptxas info    : Function properties for fill_u32
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, used 0 barriers, 368 bytes cmem[0]
`;

const disassembly = `
//--------------------- .text.few_rows_q4m            --------------------------
	.section	.text.few_rows_q4m,"ax",@progbits
few_rows_q4m:
.text.few_rows_q4m:
        /*0000*/                   MOV R1, c[0x0][0x28] ;
        /*0010*/              @!P0 LDG.E.128.CONSTANT R4, [R2.64] ;
        /*0020*/                   LDG.E R4, [R2.64] ;
        /*0030*/                   LDGSTS.E.BYPASS.128 [R5], [R2.64] ;
        /*0040*/                   IMMA.16832.U8.S8 R4, R8.ROW, R12.COL, R4 ;
        /*0050*/                   HFMA2.MMA R3, -RZ, RZ, 0, 2.384185791015625e-07 ;
        /*0060*/              @UP0 STL [R1], R2 ;
        /*0070*/                   NOP;
//--------------------- .nv.shared.few_rows_q4m --------------------------
        /*0000*/                   LDG.E.128 R4, [R2.64] ;
`;

const ptx = `.visible .entry few_rows_q4m(
	.param .u64 few_rows_q4m_param_0,
	.param .u64 .ptr .align 1 few_rows_q4m_param_1,
	.param .u32 few_rows_q4m_param_2,
	.param .align 8 .b8 few_rows_q4m_param_3[40]
)
{
.visible .entry none()
{`;

const row = {
  file: 'few_rows',
  kernel: 'few_rows_q4m',
  target: 'sm_80',
  registers: 48,
  sharedBytes: 2048,
  stackBytes: 16,
  spillBytes: 20,
  loads16: 2,
  products: 1,
  local: 1,
  total: 7,
};

test('reads what the compiler and the disassembler say of each kernel', () => {
  const { registers, sharedBytes, stackBytes, spillBytes, loads16, products, local, total } = row;
  const used = resources(log);
  expect(used.get('few_rows_q4m')).toEqual({ registers, sharedBytes, stackBytes, spillBytes });
  expect(used.get('fill_u32')).toEqual({ registers: 8, sharedBytes: 0, stackBytes: 0, spillBytes: 0 });
  expect(instructions(disassembly)).toEqual(new Map([['few_rows_q4m', { loads16, products, local, total }]]));
  expect(parameters(ptx)).toEqual(
    new Map([
      ['few_rows_q4m', [8, 8, 4, 40]],
      ['none', []],
    ]),
  );
});

test('finds spills, local memory, and what a declaration promises in vain', () => {
  const declared = { file: 'few_rows', kernel: 'few_rows_q4m', sizes: [8, 8, 4, 40], loads16: 3, products: 2 };
  const sizes = parameters(ptx);
  expect(faults([row], [declared], sizes)).toHaveLength(4);
  const clean = { ...row, spillBytes: 0, local: 0, loads16: 3, products: 2 };
  expect(faults([clean], [declared], sizes)).toEqual([]);
  expect(faults([clean], [{ ...declared, sizes: [8, 8, 4] }], sizes)).toEqual([
    'few_rows_q4m: parameters of 8,8,4,40 bytes, declared with 8,8,4',
  ]);
  expect(faults([clean], [], sizes)).toEqual(['few_rows.cu few_rows_q4m (sm_80): no launcher declares it']);
});

test('says what differs from the table', () => {
  expect(differences([row], [row])).toEqual([]);
  expect(differences([row], [{ ...row, registers: 50 }])).toEqual([
    'few_rows.cu few_rows_q4m (sm_80): registers 48, now 50',
  ]);
  expect(differences([row], [])).toEqual(['few_rows.cu few_rows_q4m (sm_80): in the table, and gone']);
  expect(differences([], [row])).toEqual(['few_rows.cu few_rows_q4m (sm_80): not in the table']);
  expect(table([row, { ...row, target: 'sm_90', registers: 52 }])).toContain('| few_rows | few_rows_q4m | 48 to 52 |');
});
