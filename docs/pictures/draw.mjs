// Draws docs/guide/pictures: one decode step of one attention head, stage by stage. Run from the repository's folder, on what dump-head.mjs wrote:
//
//   node docs/pictures/draw.mjs folder 14:1
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { decodeStep, NUM_SINKS, readHead, WINDOW } from './decode-step.mjs';
import { bar, colours, dots, label, line, marks, percent, picture, WIDTH } from './svg.mjs';

/** The query that is shown, of those that were dumped: the number's fourth digit, whose next token is the fifth. */
const DECODE = 3;
const NUMBER = '186328';
/** Positions in a bar of the first picture. */
const BIN = 16;
const [LEFT, RIGHT] = [64, WIDTH - 16];
/** The least weight that has a place in a picture. */
const LEAST = 1e-6;
/** How many of the heaviest positions the second picture marks. */
const TOP = 32;

const [folder, name] = process.argv.slice(2);
if (name === undefined) throw new Error('usage: draw.mjs folder layer:kvHead');
const head = readHead(folder, name);
const step = await decodeStep(head, DECODE);
const { numTokens } = head;
const x = (/** @type {number} */ position) => LEFT + ((RIGHT - LEFT) * position) / numTokens;
const mass = (/** @type {Iterable<number>} */ positions) =>
  Array.from(positions).reduce((sum, p) => sum + step.weights[p], 0);
const range = (/** @type {number} */ from, /** @type {number} */ to) =>
  Array.from({ length: to - from }, (_, i) => from + i);

const hidden = positionsOfNumber();

const out = join(dirname(fileURLToPath(import.meta.url)), '../guide/pictures');
mkdirSync(out, { recursive: true });
for (const [file, svg] of Object.entries({ attention: attention(), probe: probe(), refine: refine(), tail: tail() }))
  writeFileSync(join(out, `${file}.svg`), svg);

/** Where the attention of one decode query lies. */
function attention() {
  const [top, bottom] = [56, 236];
  const y = logScale(top, bottom, 1, LEAST);
  const bins = range(0, Math.ceil(numTokens / BIN)).map((bin) =>
    range(bin * BIN, Math.min(numTokens, (bin + 1) * BIN)),
  );
  const bars = bins.map((positions) => {
    const share = Math.max(mass(positions), LEAST);
    const colour = colourOf(positions[0]);
    return bar({ x: x(positions[0]), y: y(share), width: x(BIN) - x(0) - 0.5, height: bottom - y(share) }, colour);
  });
  const parts = { sinks: range(0, NUM_SINKS), number: hidden, window: range(numTokens - WINDOW, numTokens) };
  const other = 1 - Object.values(parts).reduce((sum, positions) => sum + mass(positions), 0);
  return picture({ title: `Attention of one decode query over ${numTokens} positions`, height: 276 }, [
    ...percentGrid(y, [1, 0.01, 0.0001]),
    ...bars,
    label(LEFT, 18, `first ${NUM_SINKS} (sinks): ${percent(mass(parts.sinks))}`, { colour: colours.sinks }),
    label(x(hidden[0]), 38, `the hidden number and its sentence: ${percent(mass(hidden))}`, {
      anchor: 'middle',
      colour: colours.selected,
    }),
    line(x(hidden[0]), 42, x(hidden[0]), top),
    label(RIGHT, 18, `last ${WINDOW} (window): ${percent(mass(parts.window))}`, {
      anchor: 'end',
      colour: colours.window,
    }),
    label(x(hidden[0]), 18, `all other positions: ${percent(other)}`, { anchor: 'middle', quiet: true }),
    ...axis(bottom),
  ]);
}

/** Which centroids are nearest, and the positions that their lists and the heaviest clusters name. */
function probe() {
  const [top, bottom] = [44, 120];
  const { similarities, probed, lists, fromClusters } = step;
  const width = (RIGHT - LEFT) / similarities.length;
  const floor = Math.min(...similarities) - 0.02;
  const height = (/** @type {number} */ similarity) => ((similarity - floor) / (1 - floor)) * (bottom - top);
  const colourOfCentroid = (/** @type {number} */ id) => (probed.includes(id) ? colours.lists : 'currentColor');
  const bars = similarities.map((similarity, id) =>
    bar(
      { x: LEFT + id * width, y: bottom - height(similarity), width: width - 1, height: height(similarity) },
      colourOfCentroid(id),
      probed.includes(id) ? 1 : 0.3,
    ),
  );
  const rows = [
    ...lists.map((positions, i) => ({
      words: `list of centroid ${probed[i]}`,
      positions: Array.from(positions),
      colour: colours.lists,
    })),
    { words: 'heaviest clusters, what they add', positions: Array.from(fromClusters), colour: colours.clusters },
    { words: `the ${TOP} positions of most weight`, positions: heaviest(TOP), colour: colours.selected },
  ].map(({ words, positions, colour }, i) => {
    const y = 176 + 52 * i;
    const count =
      positions.length === TOP ? '' : `: ${positions.length} positions, ${percent(mass(positions))} of the attention`;
    return [
      label(LEFT, y - 6, words + count, { colour }),
      line(LEFT, y + 9, RIGHT, y + 9),
      marks(positions.map(x), { y, height: 18, colour }),
    ];
  });
  return picture({ title: 'Probed centroids and the positions that they name', height: 392 }, [
    label(
      LEFT,
      18,
      `cosine of the query and each of ${similarities.length} centroids, oldest first; the probed ones are coloured`,
    ),
    label(LEFT - 8, top + 4, '1', { anchor: 'end', quiet: true }),
    label(LEFT - 8, bottom, floor.toFixed(2), { anchor: 'end', quiet: true }),
    line(LEFT, top, RIGHT, top),
    ...bars,
    ...rows.flat(),
    ...axis(348),
  ]);
}

/** Exact weights of the candidates, and which are selected. */
function refine() {
  const [top, bottom] = [66, 286];
  const y = logScale(top, bottom, 0.3, LEAST);
  const selected = new Set(step.selected);
  const candidates = new Set(step.candidates);
  const region = range(NUM_SINKS, numTokens - WINDOW);
  const rest = region.filter((p) => !candidates.has(p));
  const dropped = Array.from(step.candidates).filter((p) => !selected.has(p));
  const at = (/** @type {number} */ p) => /** @type {[number, number]} */ ([x(p), y(Math.max(step.weights[p], LEAST))]);
  const count = (/** @type {string} */ words, /** @type {number[]} */ positions) =>
    `${words}: ${positions.length.toLocaleString('en')}, ${percent(mass(positions))} of the attention`;
  return picture({ title: 'Exact weights of the candidates, and which of them are selected', height: 326 }, [
    ...percentGrid(y, [0.1, 0.001, 0.00001]),
    dots(rest.map(at), { size: 1.5, colour: 'currentColor', opacity: 0.35 }),
    dots(dropped.map(at), { size: 2, colour: colours.lists }),
    dots(Array.from(selected, at), { size: 2.5, colour: colours.selected }),
    label(LEFT, 16, count('selected, attended to', Array.from(selected)), { colour: colours.selected }),
    label(LEFT, 34, count('scored and dropped', dropped), { colour: colours.lists }),
    label(LEFT, 52, count('no candidates, never scored', rest), { quiet: true }),
    ...axis(bottom),
  ]);
}

/** How far the output is from dense attention's, without and with the tail. */
function tail() {
  const rows = Object.entries({
    windowOnly: { words: 'sinks and window only', colour: colours.window },
    withoutTail: { words: 'with the selected positions', colour: colours.selected },
    withTail: { words: 'with these and the tail', colour: colours.clusters },
  });
  const left = 290;
  const errors = rows.flatMap(([kind]) => step.error[kind]);
  const width = (/** @type {number} */ error) => ((RIGHT - 60 - left) * error) / Math.max(...errors);
  const groups = step.error.withTail.map((_, queryHead) => {
    const y = 44 + 92 * queryHead;
    return [
      label(16, y + 14, `query head ${queryHead + 1}`, { colour: 'currentColor' }),
      ...rows.flatMap(([kind, { words, colour }], i) => {
        const error = step.error[kind][queryHead];
        return [
          label(left - 8, y + 14 + 24 * i, words, { anchor: 'end', quiet: true }),
          bar({ x: left, y: y + 24 * i, width: Math.max(1, width(error)), height: 18 }, colour),
          label(left + width(error) + 6, y + 14 + 24 * i, error.toFixed(3)),
        ];
      }),
    ];
  });
  return picture(
    { title: 'Error of the attention output without and with the tail', height: 44 + 92 * groups.length },
    [label(16, 18, 'distance of the output to dense attention, as a share of its length'), ...groups.flat()],
  );
}

/** @param {number} top @param {number} bottom @param {number} most @param {number} least */
function logScale(top, bottom, most, least) {
  return (/** @type {number} */ weight) => top + ((bottom - top) * Math.log(most / weight)) / Math.log(most / least);
}

/** @param {(share: number) => number} y @param {number[]} shares */
function percentGrid(y, shares) {
  return shares.flatMap((share) => [
    line(LEFT, y(share), RIGHT, y(share)),
    label(LEFT - 8, y(share) + 4, `${100 * share} %`, { anchor: 'end', quiet: true }),
  ]);
}

/** Positions along the bottom. @param {number} y */
function axis(y) {
  const ticks = [0, 1000, 2000, 3000, 4000].flatMap((position) => [
    line(x(position), y, x(position), y + 5),
    label(x(position), y + 19, position.toLocaleString('en'), { anchor: 'middle', quiet: true }),
  ]);
  return [
    line(LEFT, y, RIGHT, y),
    ...ticks,
    label(RIGHT, y + 34, 'position in the text', { anchor: 'end', quiet: true }),
  ];
}

/** @param {number} position the first of a bar */
function colourOf(position) {
  if (position < NUM_SINKS) return colours.sinks;
  if (position >= numTokens - WINDOW) return colours.window;
  return hidden.some((p) => p >= position && p < position + BIN) ? colours.selected : 'currentColor';
}

/** @param {number} count @returns {number[]} positions between sinks and window */
function heaviest(count) {
  return range(NUM_SINKS, numTokens - WINDOW)
    .sort((a, b) => step.weights[b] - step.weights[a])
    .slice(0, count);
}

/** The sentence with the hidden number, which lies before the window. */
function positionsOfNumber() {
  const first = range(0, numTokens - WINDOW).find((p) => head.tokens.slice(p, p + NUMBER.length).join('') === NUMBER);
  if (first === undefined) throw new Error(`the text does not have ${NUMBER}`);
  return range(first - 9, first + NUMBER.length + 1);
}
