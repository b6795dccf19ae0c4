/** A study as a Markdown page: a table and two plots for each situation. */
import { countOf } from '@ctkvr/core';
import { type Column, makeTable, type Table } from '../tables/table.js';
import { plotFile, plotKinds } from './study-plot.js';
import type { StudyResult, StudyRow, StudySituation } from './study-result.js';

export function studyPage(result: StudyResult): string {
  const { machine, model, commit } = result;
  const intro = [
    `# ${model.name}: ${count(result.tokens)} tokens, ${result.steps} steps`,
    '',
    `${machine.cpu}, ${countOf(machine.usableThreads, 'thread')}, ${machine.isa}${commit === null ? '' : `, commit ${commit}`}, ${result.date.slice(0, 10)}. ` +
      'KL is that of the next-token distributions, dense attention to selector, in nats, a mean over the steps; keys read are a mean over layers and KV heads.',
  ];
  return `${[...intro, ...result.situations.flatMap(section)].join('\n')}\n`;
}

/** The figures of a situation, a row for each contender. */
export function situationTable(situation: StudySituation): Table {
  const inTurns = situation.rows.some((row) => row.meanKlBuiltAnew !== null);
  const builtAnew: Column<StudyRow> = ['x built anew', (row) => ratio(row.meanKl, row.meanKlBuiltAnew ?? undefined)];
  const columns: readonly Column<StudyRow>[] = [
    ['selector', (row) => row.selector],
    ['mean KL', (row) => figure(row.meanKl)],
    ['x oracle', (row) => ratio(row.meanKl, oracleOf(row, situation.rows)?.meanKl)],
    ...(inTurns ? [builtAnew] : []),
    ['same next token', (row) => `${(row.top1Agreement * 100).toFixed(1)} %`],
    ['keys read a head', (row) => count(row.keysReadPerHead)],
    ['values', (row) => count(row.valuesReadPerHead)],
    ['MB read a token', (row) => (row.bytesReadPerToken / 1e6).toFixed(2)],
    ['mass', (row) => row.attentionMass.toFixed(4)],
    ['estimated', (row) => row.estimatedAttentionMass.toFixed(4)],
    ['error', (row) => row.massError.toFixed(4)],
    [
      'index, % of KV',
      (row) => (row.indexBuildMs === 0 ? '-' : ((row.indexBytes / situation.kvBytes) * 100).toFixed(1)),
    ],
    ['build ms', (row) => (row.indexBuildMs === 0 ? '-' : count(row.indexBuildMs))],
    ['ms a token', (row) => row.msPerToken.toFixed(1)],
  ];
  return makeTable(situation.name, columns, situation.rows);
}

/** What was asked after what. */
export function situationText({ question, tokens, prefillMs }: StudySituation): string {
  return `"${question}" after ${count(tokens)} tokens, of which the document was read in ${count(prefillMs / 1000)} s.`;
}

function section(situation: StudySituation): string[] {
  const { head, rows } = situationTable(situation);
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [
    '',
    `## ${situation.name}`,
    '',
    situationText(situation),
    '',
    line(head),
    line(head.map((_, column) => (column === 0 ? '---' : '---:'))),
    ...rows.map(([selector, ...cells]) => line([`\`${selector}\``, ...cells])),
    '',
    ...plotKinds.map((kind) => `![${kind.title}, ${situation.name}](${plotFile(situation, kind)})`),
  ];
}

/** The exact top k at the same number of values, if it was measured. */
function oracleOf(row: StudyRow, rows: readonly StudyRow[]): StudyRow | undefined {
  const values = /maxSelected=\d+/.exec(row.selector)?.[0];
  const label = values === undefined ? 'exactTopK' : `exactTopK:${values}`;
  return rows.find(({ selector }) => selector === label);
}

function ratio(value: number, to: number | undefined): string {
  return to === undefined || to === 0 ? '-' : (value / to).toFixed(2);
}

function figure(value: number): string {
  return value === 0 ? '0' : value.toExponential(2);
}

function count(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}
