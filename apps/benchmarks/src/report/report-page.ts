/**
 * Results as one HTML page that needs nothing beside it: no script, no font, no address. It follows the reader's light or dark scheme, and
 * prints black on white with every table whole.
 */
import { situationTable, situationText } from '../study/study-table.js';
import { describeRun } from '../tables/describe-result.js';
import { resultTables } from '../tables/result-tables.js';
import { peerTrialsTable, settingsTable } from '../tables/settings-table.js';
import { escapeHtml, htmlFigure, htmlTable } from './html.js';
import { isStudy, type ReportInput } from './report-input.js';
import { reportPlots } from './report-plots.js';

const style = `
:root { color-scheme: light dark; --ink: #1b1b1b; --ground: #ffffff; --rule: #bbbbbb; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --ground: #161616; --rule: #555555; } }
@media print { :root { color-scheme: light; --ink: #000000; --ground: #ffffff; --rule: #888888; } }
body { color: var(--ink); background: var(--ground); font: 16px/1.45 sans-serif; margin: 0 auto; max-width: 64rem; padding: 1rem; }
figure { margin: 1.5rem 0; }
svg { color: var(--ink); display: block; height: auto; max-width: 100%; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; margin: 1rem 0; }
caption { font-weight: bold; padding: 0.3rem 0; text-align: left; }
th, td { border-bottom: 1px solid var(--rule); padding: 0.2rem 0.6rem; text-align: right; }
th:first-child { font-weight: normal; text-align: left; }
.settings td { overflow-wrap: anywhere; text-align: left; }
@media print {
  body { font-size: 10pt; max-width: none; padding: 0; }
  table { font-size: 8pt; }
  .table { overflow: visible; }
  figure, tr { break-inside: avoid; }
  h2 { break-after: avoid; }
}
`;

/** How the figures are to be read. */
const legend = [
  'Times are milliseconds: medians, with the tenth and the ninetieth percentile where they are given.',
  'full and ctkvr are CTkvr with dense attention and with its own; -flash and +flash say how node-llama-cpp computed attention. x peer is how many times as fast as its best row.',
  'KL to full is the distance of the next-token distributions to those of dense attention, in nats: what the speed costs.',
  '% of limit is the time that memory bandwidth or arithmetic peak, as measured in the same run, would need, as a share of the time taken. Prefills are held against the peak of bf16 where the processor multiplies those, all else against that of f32; 8-bit products can beat both.',
];

/** Returns the page. @param inputs in the order in which their tables are to stand. */
export function reportPage(inputs: readonly ReportInput[]): string {
  const plots = reportPlots(inputs).map(
    ({ title, svg }, number) => `<h3>${escapeHtml(title)}</h3>\n${htmlFigure({ svg, title, number })}`,
  );
  return [
    '<!DOCTYPE html>',
    '<html lang="en">',
    '<head>',
    '<meta charset="utf-8" />',
    '<meta name="viewport" content="width=device-width, initial-scale=1" />',
    '<title>CTkvr: benchmark report</title>',
    `<style>${style}</style>`,
    '</head>',
    '<body>',
    '<h1>CTkvr: benchmark report</h1>',
    ...legend.map((line) => `<p>${escapeHtml(line)}</p>`),
    ...(plots.length === 0 ? [] : ['<h2>Plots</h2>', ...plots]),
    '<h2>Figures</h2>',
    ...inputs.flatMap(section),
    '</body>',
    '</html>',
    '',
  ].join('\n');
}

function section({ source, result }: ReportInput): string[] {
  const trials = peerTrialsTable(result);
  return [
    '<section>',
    ...(isStudy(result)
      ? [
          `<h3>${escapeHtml(`study: ${result.model.name}`)}</h3>`,
          ...result.situations.flatMap((situation) => [
            `<p>${escapeHtml(situationText(situation))}</p>`,
            boxed(htmlTable(situationTable(situation))),
          ]),
        ]
      : [
          `<h3>${escapeHtml(describeRun(result))}</h3>`,
          ...resultTables(result).map((table) => boxed(htmlTable(table))),
        ]),
    ...(trials === null ? [] : [boxed(htmlTable(trials))]),
    `<div class="settings">${boxed(htmlTable(settingsTable(result)))}</div>`,
    `<p>From ${escapeHtml(source)}.</p>`,
    '</section>',
  ];
}

/** A table that is too wide for the screen scrolls by itself. */
function boxed(table: string): string {
  return `<div class="table">${table}</div>`;
}
