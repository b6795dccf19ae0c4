// The built native binary holds no tile instruction but our own: ggml's AMX kernels die of SIGILL when gcc 12 compiled them.
import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { arch } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { findProgram } from './lib/exec.mjs';
import { root } from './lib/paths.mjs';

/** Every instruction on tiles: configuration, loads, stores, products of any type. */
const TILE_INSTRUCTION =
  /^(ldtilecfg|sttilecfg|tile(loadd|loaddt1|stored|zero|release)|t(dp|cmm|mm)[a-z0-9]+ps|tdpb[us]{2}d)$/;

/**
 * Functions that execute an instruction on tiles, in what `objdump -d --no-show-raw-insn -C` prints.
 * @param {string} disassembly @returns {string[]}
 */
function functionsOnTiles(disassembly) {
  const found = new Set();
  let current = '(no symbol)';
  for (const line of disassembly.split('\n')) {
    const symbol = /^[0-9a-f]+ <(.*)>:$/.exec(line);
    if (symbol) current = symbol[1] ?? '';
    const instruction = /^\s*[0-9a-f]+:\t(\S+)/.exec(line);
    if (instruction && TILE_INSTRUCTION.test(instruction[1] ?? '')) found.add(current);
  }
  return [...found];
}

test('functions on tiles are found by their instructions', () => {
  const text =
    '0000000000001000 <tinygemm_kernel_amx(int)>:\n    1000:\ttileloadd (%rax,%rbx,1),%tmm0\n    1009:\ttdpbusd %tmm1,%tmm2,%tmm0\n' +
    '0000000000002000 <other>:\n    2000:\tmov    %rax,%rbx\n    2003:\tcall   1000 <tileloadd>\n' +
    '0000000000003000 <third>:\n    3000:\tldtilecfg (%rax)\n';
  expect(functionsOnTiles(text)).toEqual(['tinygemm_kernel_amx(int)', 'third']);
});

const folder = join(root, 'packages/native');
const libraries = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  .filter((path) => !path.includes('node_modules') && /\.(node|so[.\d]*)$/.test(path))
  .map((path) => join(folder, path));

test.runIf(arch() === 'x64' && findProgram('objdump'))(
  'no code but ours runs on tiles, in any library that is built',
  () => {
    expect(libraries).not.toEqual([]);
    for (const library of libraries) {
      const text = execFileSync('objdump', ['-d', '--no-show-raw-insn', '-C', library], {
        encoding: 'utf8',
        maxBuffer: 1 << 30,
      });
      expect(functionsOnTiles(text).filter((name) => !name.startsWith('ctkvr_kernels::'))).toEqual([]);
    }
  },
);
