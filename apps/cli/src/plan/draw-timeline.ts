/**
 * One layer of a step as an SVG: what device and CPU do beside each other, and the hops between them. Ink is the reader's, light or dark. A hybrid layer is
 * drawn where there is one, since it is the one that needs a picture.
 */
import {
  type LayerPlace,
  type Placement,
  type Plan,
  type TimelineEvent,
  type WorkPart,
  workParts,
} from '@ctkvr/scheduler';
import { words } from './describe-workload.js';

const WIDTH = 760;
const HEIGHT = 300;
const LEFT = 70;
const RIGHT = 740;
const LANE_HEIGHT = 44;
const lanes = { device: 60, host: 150 } as const;
const AXIS_Y = 212;
const LEGEND_Y = 262;
const LEGEND_COLUMNS = 4;
const LEGEND_WIDTH = 168;
/** What is narrower has no room for a number. */
const NUMBERED_WIDTH = 14;

const colours: Readonly<Record<WorkPart, string>> = {
  weights: '#7a7a7a',
  window: '#14a38b',
  retrievalHeads: '#d1495b',
  index: '#8d6cab',
  candidates: '#d97706',
  values: '#2e86ab',
  launches: '#b0a03a',
  sampling: '#5a8f8f',
};

/** Milliseconds to pixels. */
type Scale = (ms: number) => number;

/** Returns an SVG document. */
export function drawTimeline({ placement, time }: Plan): string {
  const { layer, place } = layerToDraw(placement);
  const events = time.timeline.filter((event) => event.layer === layer);
  const startMs = Math.min(...events.map((event) => event.startMs));
  const endMs = Math.max(...events.map((event) => event.endMs));
  const x: Scale = (ms) =>
    Math.min(RIGHT, Math.max(LEFT, LEFT + ((ms - startMs) / (endMs - startMs)) * (RIGHT - LEFT)));
  const numLayers = placement.layers.device + placement.layers.hybrid + placement.layers.host;
  const title = `Layer ${layer + 1} of ${numLayers}, ${place}: ${microseconds(endMs - startMs)}, predicted`;
  return svg(title, [
    label(LEFT, 22, title),
    label(8, lanes.device + LANE_HEIGHT / 2 + 4, 'device'),
    label(8, lanes.host + LANE_HEIGHT / 2 + 4, 'host'),
    // The layers before and after it, pale: what they leave no room for.
    ...time.timeline.flatMap((event) => drawEvent(event, x, event.layer === layer)),
    ...drawAxis(endMs - startMs),
    ...drawLegend(events),
  ]);
}

/** The middle one of the hybrid layers, else of the host's, else of the device's. */
function layerToDraw({ layers }: Placement): { readonly layer: number; readonly place: LayerPlace } {
  const { device, hybrid, host } = layers;
  const middle = (before: number, count: number) => before + Math.floor((count - 1) / 2);
  if (hybrid > 0) return { layer: middle(device, hybrid), place: 'hybrid' };
  if (host > 0) return { layer: middle(device, host), place: 'host' };
  return { layer: middle(0, device), place: 'device' };
}

function drawEvent(event: TimelineEvent, x: Scale, isDrawnLayer: boolean): string[] {
  const { resource, startMs, endMs } = event;
  const [from, to] = [x(startMs), x(endMs)];
  if (resource === 'toHost' || resource === 'toDevice') {
    if (!isDrawnLayer) return [];
    const ends = [lanes.device + LANE_HEIGHT, lanes.host];
    const [first, last] = resource === 'toHost' ? ends : ends.reverse();
    return [`<path class="hop" d="M${round(from)} ${first}L${round(to)} ${last}"/>`];
  }
  let at = startMs;
  const boxes = workParts.flatMap((part) => {
    const begin = x(at);
    at += event.work[part] ?? 0;
    const width = x(at) - begin;
    return width > 0
      ? [box({ x: begin, y: lanes[resource], width, height: LANE_HEIGHT }, colours[part], isDrawnLayer)]
      : [];
  });
  const hasRoom = isDrawnLayer && to - from > NUMBERED_WIDTH;
  return hasRoom ? [...boxes, label((from + to) / 2, lanes[resource] - 6, `${event.microBatch + 1}`, 'middle')] : boxes;
}

/** Microseconds from the layer's beginning, at some six round places. */
function drawAxis(spanMs: number): string[] {
  const span = spanMs * 1000;
  const power = 10 ** Math.floor(Math.log10(span / 6));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => span / size <= 8)!;
  const ticks = Array.from({ length: Math.floor(span / step) + 1 }, (_, i) => i * step);
  const place = (us: number) => round(LEFT + (us / span) * (RIGHT - LEFT));
  return [
    `<path class="line" d="M${LEFT} ${AXIS_Y}H${RIGHT}${ticks.map((us) => `M${place(us)} ${AXIS_Y}v5`).join('')}"/>`,
    ...ticks.map((us) => label(place(us), AXIS_Y + 20, `${Number(us.toPrecision(6))}`, 'middle')),
    label(8, AXIS_Y + 20, 'µs'),
  ];
}

/** What each colour stands for, and how long it takes in this layer, all micro-batches together. */
function drawLegend(events: readonly TimelineEvent[]): string[] {
  const totals = workParts.map((part) => ({ part, ms: events.reduce((sum, { work }) => sum + (work[part] ?? 0), 0) }));
  return totals
    .filter(({ ms }) => ms > 0)
    .flatMap(({ part, ms }, i) => {
      const x = LEFT + (i % LEGEND_COLUMNS) * LEGEND_WIDTH;
      const y = LEGEND_Y + Math.floor(i / LEGEND_COLUMNS) * 22;
      return [
        box({ x, y: y - 10, width: 11, height: 11 }, colours[part], true),
        label(x + 16, y, `${words(part)} ${microseconds(ms)}`),
      ];
    });
}

function svg(title: string, elements: readonly string[]): string {
  const look =
    'svg{color:#1f2328;font:13px system-ui,sans-serif}@media(prefers-color-scheme:dark){svg{color:#e6edf3}}' +
    'text{fill:currentColor}.line{stroke:currentColor;opacity:.4;fill:none}.hop{stroke:currentColor;fill:none;stroke-width:1.5}';
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" role="img">
<title>${title}</title>
<style>${look}</style>
${elements.join('\n')}
</svg>
`;
}

function label(x: number, y: number, content: string, anchor: 'start' | 'middle' = 'start'): string {
  return `<text x="${round(x)}" y="${round(y)}" text-anchor="${anchor}">${content}</text>`;
}

function box(
  { x, y, width, height }: { readonly x: number; readonly y: number; readonly width: number; readonly height: number },
  colour: string,
  isDrawnLayer: boolean,
): string {
  const size = `x="${round(x)}" y="${round(y)}" width="${round(width)}" height="${round(height)}"`;
  return `<rect ${size} fill="${colour}" opacity="${isDrawnLayer ? 1 : 0.25}"/>`;
}

function microseconds(ms: number): string {
  return `${(ms * 1000).toFixed(ms < 0.01 ? 1 : 0)} µs`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
