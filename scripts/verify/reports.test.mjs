import { expect, test } from 'vitest';
import { cargoTestCounts, tapCounts, vitestCounts, vitestSkips } from './reports.mjs';
import { closingLine, countsText, summaryTable } from './summary.mjs';

const cargoOutput = `
running 3 tests
test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.02s
   Doc-tests ctkvr_core
test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
`;

test('cargo: the result lines of all test binaries are summed', () => {
  expect(cargoTestCounts(cargoOutput, 101)).toEqual({ passed: 4, failed: 2, skipped: 1 });
});

test('cargo: a run that did not compile is one failure', () => {
  expect(cargoTestCounts('error[E0308]: mismatched types', 101)).toEqual({ passed: 0, failed: 1, skipped: 0 });
});

test('vitest: a file that could not be loaded is one failure', () => {
  const report = {
    ...{ numPassedTests: 5, numFailedTests: 1, numPendingTests: 2, numTodoTests: 1 },
    testResults: [
      { status: 'failed', assertionResults: [{ status: 'failed' }] },
      { status: 'failed', assertionResults: [] },
      { status: 'passed', assertionResults: [{ status: 'passed' }] },
    ],
  };
  expect(vitestCounts(JSON.stringify(report), 1)).toEqual({ passed: 5, failed: 2, skipped: 3 });
});

test('vitest: skipped tests are named', () => {
  const assertionResults = [
    { status: 'passed', fullName: 'index probes' },
    { status: 'skipped', fullName: 'native index (no binary)' },
  ];
  expect(vitestSkips(JSON.stringify({ testResults: [{ assertionResults }] }))).toEqual(['native index (no binary)']);
});

test('tap: a crash without a failed test is one failure', () => {
  expect(tapCounts('# pass 4\n# fail 0\n# cancelled 0\n# skipped 1\n# todo 0\n', 0)).toEqual({
    passed: 4,
    failed: 0,
    skipped: 1,
  });
  expect(tapCounts('', 1)).toEqual({ passed: 0, failed: 1, skipped: 0 });
});

test('the closing line is nothing but passed and failed; a check also names what it skipped', () => {
  expect(closingLine({ passed: 3, failed: 1, skipped: 2 })).toBe('3 passed, 1 failed');
  expect(countsText({ passed: 3, failed: 0, skipped: 0 })).toBe('3 passed, 0 failed');
  expect(countsText({ passed: 3, failed: 1, skipped: 2 })).toBe('3 passed, 1 failed, 2 skipped');
});

test('the table has one row a check, with its note', () => {
  const counts = { passed: 0, failed: 0, skipped: 1 };
  const table = summaryTable([{ name: 'workflows', counts, durationMs: 1250, note: 'no actionlint' }]);
  expect(table.split('\n')[1]).toMatch(/^workflows +0 +0 +1 +1\.[23] +no actionlint$/);
});
