/**
 * Several answers to one prompt (`n`). Each choice is an answer of its own, in a place of its own in the queue, and a protocol knows of one
 * only; what they become together is said here. The first one reads the prompt. The others begin when it has, from the kept prompt.
 */
import { setMaxListeners } from 'node:events';
import type { Frame } from './event-stream.js';
import type { GenerationRequest } from './generation-request.js';

/** Each is a request to the queue. */
export const MAX_CHOICES = 16;

/** Returns the request of one choice. With a seed, each has the seed after that of the choice before. */
export function requestOfChoice(request: GenerationRequest, choice: number): GenerationRequest {
  return { ...request, seed: request.seed === null ? null : (request.seed + choice) >>> 0 };
}

export interface RunningChoice {
  readonly index: number;
  /** Aborts with the request, and when another of its choices has failed. */
  readonly signal: AbortSignal;
  /** To be called when the prompt is read. */
  readonly promptRead: () => void;
}

/** Runs all choices and returns what each returns. Settles when none runs any more. @throws what the first that fails throws. */
export async function runChoices<T>(
  numChoices: number,
  requestSignal: AbortSignal,
  run: (choice: RunningChoice) => Promise<T>,
): Promise<T[]> {
  const failed = new AbortController();
  const signal = AbortSignal.any([requestSignal, failed.signal]);
  setMaxListeners(0, signal); // each choice listens
  let promptRead!: () => void;
  const isPromptRead = new Promise<void>((resolve) => {
    promptRead = resolve;
  });
  const runOne = async (index: number): Promise<T> => {
    try {
      if (index > 0) await isPromptRead;
      signal.throwIfAborted();
      return await run({ index, signal, promptRead });
    } catch (error) {
      failed.abort(error); // only the first one counts
      throw error;
    } finally {
      promptRead();
    }
  };
  const runs = await Promise.allSettled(Array.from({ length: numChoices }, (_, index) => runOne(index)));
  failed.signal.throwIfAborted();
  return runs.map((one) => (one as PromiseFulfilledResult<T>).value);
}

interface Usage {
  readonly completion_tokens: number;
  readonly total_tokens: number;
}

/** An object of an answer, as far as choices are concerned. */
interface Body {
  readonly choices?: readonly object[];
  readonly usage?: Usage | null;
}

/** Returns the whole answer of several choices. */
export function joinBodies(bodies: readonly object[]): object {
  const [first, ...others] = bodies as readonly [Body, ...Body[]];
  if (others.length === 0) return first;
  const choices = bodies.flatMap((body, index) => numbered(body, index).choices ?? []);
  return { ...first, choices, usage: joinUsages(bodies) };
}

/** Returns a frame of one of the choices as it is sent. */
export function frameOfChoice(frame: Frame, index: number): Frame {
  return index === 0 || typeof frame.data === 'string' ? frame : { ...frame, data: numbered(frame.data, index) };
}

/** Returns the last frames of a stream from those of each choice: their finish reasons, one usage, one end. */
export function joinEnds(ends: readonly (readonly Frame[])[]): readonly Frame[] {
  const [first = [], ...others] = ends;
  if (others.length === 0) return first;
  const finishes = ends.flatMap((end, index) => end.filter(isOfChoice).map((frame) => frameOfChoice(frame, index)));
  const bodies = ends.flatMap((end) => end.map(({ data }) => data).filter(hasUsage));
  const closing = first
    .filter((frame) => !isOfChoice(frame))
    .map(({ data }) => ({
      data: hasUsage(data) ? { ...data, usage: joinUsages(bodies) } : data,
    }));
  return [...finishes, ...closing];
}

function isOfChoice({ data }: Frame): boolean {
  return typeof data !== 'string' && (data as Body).choices?.length !== 0;
}

function hasUsage(data: Frame['data']): data is Body & object {
  return typeof data !== 'string' && (data as Body).usage != null;
}

function numbered(body: Body, index: number): Body {
  return body.choices === undefined ? body : { ...body, choices: body.choices.map((choice) => ({ ...choice, index })) };
}

/** The prompt counts once: the others did not read it again. */
function joinUsages(bodies: readonly Body[]): Usage {
  const usages = bodies.map(({ usage }) => usage!);
  const [first] = usages as [Usage, ...Usage[]];
  const completionTokens = usages.reduce((sum, usage) => sum + usage.completion_tokens, 0);
  const promptTokens = first.total_tokens - first.completion_tokens;
  return { ...first, completion_tokens: completionTokens, total_tokens: promptTokens + completionTokens };
}
