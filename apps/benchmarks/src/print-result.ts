/** A result as a table for people. */
import type { BenchResult, BenchRow } from './suites/result.js';

export function formatResult(result: BenchResult): string {
  const { machine, model } = result;
  const head = [
    `${result.suite}: ${model.name}, ${result.context} tokens, ${result.rounds} rounds${result.commit ? `, commit ${result.commit}` : ''}`,
    `${machine.cpu}, ${machine.usableThreads} threads, ${machine.isa}, ${machine.memory.bandwidthGBps} GB/s read, load ${machine.loadAverage} at the start`,
  ];
  const columns: [string, (row: BenchRow) => string][] = [
    ['', (row) => row.name + (row.flashAttention === null ? '' : row.flashAttention ? ' +flash' : ' -flash')],
    ['threads', (row) => String(row.threads)],
    [result.suite === 'decode' ? 'ms/token' : 'first token ms', (row) => String(row.medianMs)],
    ['p10', (row) => String(row.p10)],
    ['p90', (row) => String(row.p90)],
    ['tokens/s', (row) => String(row.tokensPerSecond)],
    ['x peer', (row) => String(row.ratioToPeer ?? '-')],
    ['KL to full', (row) => row.meanKlToFull?.toExponential(2) ?? '-'],
    ['% of limit', (row) => (row.shareOfLimit === null ? '-' : `${Math.round(row.shareOfLimit * 100)} %`)],
    ['peak MB', (row) => String(Math.round(row.peakMemoryBytes / 1e6))],
  ];
  const cells = [columns.map(([title]) => title), ...result.rows.map((row) => columns.map(([, cell]) => cell(row)))];
  const widths = columns.map((_, column) => Math.max(...cells.map((line) => line[column]!.length)));
  const lines = cells.map((line) =>
    line.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))).join('  '),
  );
  return [...head, '', ...lines].join('\n');
}
