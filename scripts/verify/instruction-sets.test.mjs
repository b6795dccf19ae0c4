import { expect, test } from 'vitest';
import { instructionSetsLine, testsByTable } from './instruction-sets.mjs';

const report = JSON.stringify({
  testResults: [
    {
      assertionResults: [
        { status: 'passed', fullName: 'native, avx2 probes' },
        { status: 'passed', fullName: 'native, avx2 selects' },
        { status: 'passed', fullName: 'a prompt scalar' },
        { status: 'failed', fullName: 'native, avx512 probes' },
        { status: 'skipped', fullName: 'amx (this machine lacks amx-tile)' },
        { status: 'passed', fullName: 'native, avx512vnni probes' },
      ],
    },
  ],
});

test('says which tables were tested, and why others were not', () => {
  const tests = testsByTable([report, JSON.stringify({ testResults: [] })]);
  const tables = [
    { name: 'scalar', missing: [] },
    { name: 'avx2', missing: [] },
    { name: 'avx512', missing: [] },
    { name: 'amx', missing: ['amx-tile'] },
  ];
  expect(instructionSetsLine(tests, tables)).toBe(
    'instruction sets with tests of their own: scalar 1, avx2 2, avx512vnni 1; not here: avx512 (there, but not run), avx512bf16 (another architecture), amx (lacks amx-tile), neon (another architecture)',
  );
});
