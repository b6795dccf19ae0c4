/** What plans and lists of cards have in common as text. */
import type { HostSpec, Workload } from '@ctkvr/scheduler';
import { formatCount } from '../format.js';

export const PREDICTED = 'Predicted from bytes and bandwidths. None of these times was measured on a card.';

export function workloadRows(
  { model, context, sequences, weights, kvFormat, reads }: Workload,
  host: HostSpec,
): string[][] {
  const { numLayers, numQueryHeads, numKvHeads, headDim } = model;
  const format = weights ?? (model.weightsBytes === undefined ? 'f16' : 'as in its file');
  const one = sequences === 1 ? 'sequence' : 'sequences';
  const cores = host.cores === undefined ? '' : `, ${host.cores} cores`;
  return [
    [
      'model',
      `${model.name}: ${numLayers} layers, ${numQueryHeads} query heads, ${numKvHeads} KV heads of ${headDim}; weights ${format}`,
    ],
    [
      'work',
      `${sequences} ${one} of ${formatCount(context)} tokens; keys and values ${kvFormat ?? 'f16'}, reads ${reads ?? 'widest'}`,
    ],
    ['host', `${gigabytes(host.memoryBytes)}, ${formatCount(host.gigabytesPerSecond)} GB/s${cores}`],
  ];
}

/** Decimal, as makers of memory count. */
export function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}

export function milliseconds(ms: number): string {
  return `${ms.toFixed(1)} ms`;
}

export function times(factor: number): string {
  return `${factor.toFixed(2)} x`;
}

/** `retrievalHeads` as `retrieval heads`. */
export function words(part: string): string {
  return part.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}
