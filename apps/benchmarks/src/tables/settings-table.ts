/** What a result was measured on and with, as a table. */
import type { StudyResult } from '../study/study-result.js';
import type { PeerTrial } from '../suites/bench-row.js';
import type { SuiteResult } from '../suites/result.js';
import { figure, megabytes } from './cells.js';
import { arithmeticText } from './describe-result.js';
import { makeTable, type Table } from './table.js';

type Fact = readonly [what: string, value: string];

/** Fields that results of an earlier day lack are left out. */
export function settingsTable(result: SuiteResult | StudyResult): Table {
  const { machine, commit, date } = result;
  const facts: Fact[] = [
    ...('model' in result
      ? ([
          ['model', `${result.model.name}, ${megabytes(result.model.sizeBytes)} MB`],
          ['its SHA-256', result.model.sha256],
        ] as const)
      : []),
    ['processor', machine.cpu],
    ['cores, threads that run at once', `${machine.cores}, ${machine.usableThreads}`],
    ['kernels', machine.isa],
    ['features that ggml uses', machine.ggmlFeatures.join(' ')],
    ['memory', `${(machine.memory.totalBytes / 1e9).toFixed(1)} GB, ${machine.memory.bandwidthGBps} GB/s read`],
    ...(machine.arithmetic == null ? [] : ([['arithmetic', arithmeticText(machine.arithmetic)]] as const)),
    ['load at the start', figure(machine.loadAverage)],
    ['system', `${machine.os}, Node.js ${machine.node}`],
    ['commit', commit ?? '-'],
    ['date', date.slice(0, 10)],
    ...runSettings(result),
  ];
  return makeTable<Fact>(
    'Machine and settings',
    [
      ['', ([what]) => what],
      ['', ([, value]) => value],
    ],
    facts,
  );
}

const settings = [
  ...(['context', 'promptTokens', 'tokens', 'sequences', 'threads', 'rounds', 'steps', 'numQuestions'] as const),
  ...(['tokensPerRound', 'tokensPerAnswer', 'denseBelow'] as const),
];

function runSettings(result: SuiteResult | StudyResult): Fact[] {
  const values = result as Partial<Record<(typeof settings)[number], number | null>>;
  const format: Fact[] = 'kvFormat' in result && result.kvFormat !== undefined ? [['kvFormat', result.kvFormat]] : [];
  return [
    ...settings.filter((name) => values[name] != null).map((name): Fact => [name, figure(values[name])]),
    ...format,
  ];
}

/** Every setting the peer was tried with; null when it did not take part. */
export function peerTrialsTable(result: SuiteResult | StudyResult): Table | null {
  const trials = 'peerTrials' in result ? result.peerTrials : [];
  if (trials.length === 0) return null;
  return makeTable<PeerTrial>(
    'Settings that node-llama-cpp was tried with',
    [
      ['flash attention', ({ flashAttention }) => (flashAttention ? 'on' : 'off')],
      ['threads', ({ threads }) => figure(threads)],
      ['best ms', ({ bestMs }) => figure(bestMs)],
    ],
    trials,
  );
}
