// How many tests a runner ran, read from the runner's own report.

/**
 * @typedef {object} Counts
 * @property {number} passed
 * @property {number} failed
 * @property {number} skipped
 */

/**
 * Sums the `test result:` lines that cargo test prints, one for each test binary. A run that ended badly without a failed test (it did
 * not compile, it crashed) counts as one failure.
 * @param {string} output @param {number} code exit code
 * @returns {Counts}
 */
export function cargoTestCounts(output, code) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const match of output.matchAll(/^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored;/gm)) {
    counts.passed += Number(match[1]);
    counts.failed += Number(match[2]);
    counts.skipped += Number(match[3]);
  }
  return atLeastOneFailure(counts, code);
}

/**
 * Reads vitest's JSON report. A file that failed before it ran a test counts as one failure.
 * @param {string} json @param {number} code exit code
 * @returns {Counts}
 */
export function vitestCounts(json, code) {
  const report = JSON.parse(json);
  const counts = {
    passed: report.numPassedTests,
    failed: report.numFailedTests,
    skipped: report.numPendingTests + report.numTodoTests,
  };
  for (const file of report.testResults) {
    const hasFailedTest = file.assertionResults.some(
      (/** @type {{ status: string }} */ test) => test.status === 'failed',
    );
    if (file.status === 'failed' && !hasFailedTest) counts.failed += 1;
  }
  return atLeastOneFailure(counts, code);
}

/** Names of the skipped tests of vitest's JSON report; a test that says why it is skipped says so in its name. @param {string} json */
export function vitestSkips(json) {
  /** @type {{ assertionResults: { status: string, fullName: string }[] }[]} */
  const files = JSON.parse(json).testResults;
  return files.flatMap((file) =>
    file.assertionResults.filter(({ status }) => skipped.has(status)).map(({ fullName }) => fullName),
  );
}

const skipped = new Set(['skipped', 'pending', 'todo']);

/**
 * Reads the closing comments of node's TAP report.
 * @param {string} tap @param {number} code exit code
 * @returns {Counts}
 */
export function tapCounts(tap, code) {
  const count = (/** @type {string} */ name) => Number(new RegExp(`^# ${name} (\\d+)$`, 'm').exec(tap)?.[1] ?? 0);
  const counts = {
    passed: count('pass'),
    failed: count('fail') + count('cancelled'),
    skipped: count('skipped') + count('todo'),
  };
  return atLeastOneFailure(counts, code);
}

/** @param {Counts} counts @param {number} code @returns {Counts} */
function atLeastOneFailure(counts, code) {
  return code !== 0 && counts.failed === 0 ? { ...counts, failed: 1 } : counts;
}
