// The table and the closing line of a verification.

/**
 * @typedef {object} Outcome
 * @property {string} name of the check
 * @property {import('./reports.mjs').Counts} counts
 * @property {number} durationMs
 * @property {string} note such as the reason of a skip; '' when there is nothing to say
 */

/** Sums counts. @param {Outcome[]} outcomes @returns {import('./reports.mjs').Counts} */
export function total(outcomes) {
  const sum = { passed: 0, failed: 0, skipped: 0 };
  for (const { counts } of outcomes) {
    sum.passed += counts.passed;
    sum.failed += counts.failed;
    sum.skipped += counts.skipped;
  }
  return sum;
}

/** One row a check. @param {Outcome[]} outcomes */
export function summaryTable(outcomes) {
  const rows = [
    ['check', 'passed', 'failed', 'skipped', 'seconds', ''],
    ...outcomes.map(({ name, counts, durationMs, note }) => [
      name,
      ...[counts.passed, counts.failed, counts.skipped].map(String),
      (durationMs / 1000).toFixed(1),
      note,
    ]),
  ];
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  return rows
    .map((row) =>
      row
        .map((cell, column) =>
          column === 0 || column === 5 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
        )
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** What a check came to. @param {import('./reports.mjs').Counts} counts */
export function countsText(counts) {
  return `${closingLine(counts)}${counts.skipped > 0 ? `, ${counts.skipped} skipped` : ''}`;
}

/** The last line, read by machines: nothing more than this. @param {import('./reports.mjs').Counts} counts */
export function closingLine({ passed, failed }) {
  return `${passed} passed, ${failed} failed`;
}
