/** The page request-fields.md: the tables of fields for readers. */
import type { FieldRule, FieldTable } from '../src/field-rules.js';
import { documentFields } from '../src/sessions/read-document-request.js';
import { detokenizeFields, tokenizeFields } from '../src/token-fields.js';
import { protocolsWithFields } from './protocols-with-fields.js';

const intro = `# Fields of requests

Written by \`node_modules/.bin/vitest run apps/server/test/request-fields.test.ts -u\` from the tables in \`src/*-fields.ts\`. What becomes of every
field that OpenAI, vLLM and llama.cpp's server document:

- **honoured**: it has the effect it has there.
- **ignored**: no answer can differ by it.
- **refused**: 400 with the field's name, but for the values in "may be", which mean the same as leaving it out.

A field in none of these tables is refused with 400 and the nearest name. \`null\` counts as absent everywhere. \`POST /apply-template\` takes what
\`POST /v1/chat/completions\` takes, of which \`model\` may be left out.`;

const sections: [string, FieldTable][] = [
  ...protocolsWithFields.flatMap(({ route, places }) =>
    places.map(({ title, table }): [string, FieldTable] => [title === '' ? `## POST ${route}` : `### ${title}`, table]),
  ),
  ['## POST /v1/sessions', documentFields],
  ['## POST /tokenize', tokenizeFields],
  ['## POST /detokenize', detokenizeFields],
];

/** Returns the whole page. */
export function requestFieldsPage(): string {
  return [intro, ...sections.flatMap(([title, table]) => [title, ...tables(table)]), ''].join('\n\n');
}

function tables(fields: FieldTable): string[] {
  const of = (treatment: FieldRule['treatment']) =>
    Object.entries(fields).filter(([, rule]) => rule.treatment === treatment);
  return [
    table(
      ['honoured', 'known from', ''],
      of('honoured').map(([name, rule]) => [code(name), rule.source, rule.note]),
    ),
    table(
      ['ignored', 'known from', 'why'],
      of('ignored').map(([name, rule]) => [code(name), rule.source, rule.note]),
    ),
    table(
      ['refused', 'known from', 'may be', 'why, or what instead'],
      of('refused').map(([name, rule]) => [code(name), rule.source, offValues(rule), rule.note]),
    ),
  ].filter((text) => text !== '');
}

function offValues(rule: FieldRule): string {
  return rule.treatment === 'refused' ? rule.off.map((value) => code(JSON.stringify(value))).join(', ') : '';
}

function table(head: string[], rows: string[][]): string {
  if (rows.length === 0) return '';
  return [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

function code(text: string): string {
  return `\`${text}\``;
}
