/**
 * The index of a prompt: what it costs to build and to keep up to date, its size, and where decode steps with and without it spend their
 * time. It looks into our engine and has no peer, so it runs in this process.
 */
import { CtkvrError } from '@ctkvr/core';
import { significant } from '@ctkvr/evaluation';
import { loadModel, type Model, type Session } from '@ctkvr/model-runner';
import { greedyGeneration } from '../contenders/greedy-generation.js';
import { promptTokens } from '../prompt.js';
import { quantileOf, sampleStatistics } from '../sample-statistics.js';
import { inTurns } from './in-turns.js';
import type { IndexBuild, IndexGrowth, IndexResult, IndexTurn, StageSplit } from './index-result.js';
import { type DecodedStep, stageSplit } from './stage-split.js';
import type { SuiteOptions } from './suite-options.js';

/** Tokens of the further turn. */
const TURN_TOKENS = 128;

export interface IndexOptions extends Omit<SuiteOptions, 'peer' | 'maxThreads'> {
  /** Tokens generated while the index grows; fewer when the context ends before. */
  readonly growthTokens: number;
  readonly headDim: number;
  /** Decimal GB/s. */
  readonly bandwidthGBps: number;
}

export type IndexFindings = Pick<IndexResult, 'build' | 'growth' | 'turn' | 'splits'>;

/** @throws {CtkvrError} CTKVR_INVALID_OPTION when the context is too short for an index, or leaves no room behind it. */
export async function indexSuite(options: IndexOptions): Promise<IndexFindings> {
  const { context, modelPath, model: file, tokensPerRound, denseBelow } = options;
  const contextLength = Math.min(
    file.trainedContext,
    context + Math.max(options.growthTokens, tokensPerRound, TURN_TOKENS) + 8,
  );
  const room = contextLength - context - 8;
  if (room < tokensPerRound) throw noRoom(context, file.trainedContext);
  await using model = await loadModel(modelPath, { contextLength });
  const selector = { method: 'ctkvr', ...(denseBelow === undefined ? {} : { denseBelow }) } as const;
  const tokens = await promptTokens(model, context + Math.min(TURN_TOKENS, room));
  const prompt = tokens.slice(0, context);
  await using base = model.createSession({ contextLength, selector });
  const build = await measureBuild({ model, base, prompt }, options);
  const growth = await measureGrowth(base, Math.min(options.growthTokens, room));
  const turn = await measureTurn(base, tokens.slice(context));
  const splits = await measureSplits(model, base, options);
  return { build, growth, turn, splits };
}

/** Prefills every round; `base` holds the last one's prompt afterwards. */
async function measureBuild(
  { model, base, prompt }: { readonly model: Model; readonly base: Session; readonly prompt: Int32Array },
  { rounds, onProgress }: IndexOptions,
): Promise<IndexBuild> {
  const prefills: number[] = [];
  const builds: number[] = [];
  let indexedTokens = 0;
  for (let round = 1; round <= rounds; round++) {
    onProgress(`prefill and index, round ${round} of ${rounds}`);
    base.truncate(0);
    const { prefillMs, index } = await base.prefill(prompt);
    if (index === null) throw noIndex(prompt.length);
    prefills.push(prefillMs);
    builds.push(index.buildMs);
    indexedTokens = index.indexedTokens;
  }
  const { median, p10, p90, numSamples } = sampleStatistics(builds);
  const prefillMs = quantileOf(prefills, 0.5);
  return {
    prefillMs: significant(prefillMs),
    buildMs: { median: significant(median), p10: significant(p10), p90: significant(p90), numSamples },
    shareOfPrefill: significant(median / prefillMs),
    indexBytes: base.memory.indexBytes,
    kvBytes: prompt.length * model.info.kvBytesPerToken,
    indexedTokens,
  };
}

async function measureGrowth(base: Session, numTokens: number): Promise<IndexGrowth> {
  await using session = base.fork();
  const bytesBefore = session.memory.indexBytes;
  const growing: number[] = [];
  let stepsMs = 0;
  for await (const { statistics } of session.generate({ ...greedyGeneration, maxTokens: numTokens })) {
    growing.push(statistics.timings.indexMs);
    stepsMs += statistics.timings.totalMs;
  }
  const totalMs = growing.reduce((sum, ms) => sum + ms, 0);
  return {
    tokens: growing.length,
    msPerToken: significant(totalMs / growing.length),
    shareOfSteps: significant(totalMs / stepsMs),
    maxMs: significant(Math.max(...growing)),
    bytesBefore,
    bytesAfter: session.memory.indexBytes,
  };
}

async function measureTurn(base: Session, tokens: Int32Array): Promise<IndexTurn> {
  await using session = base.fork();
  const { prefillMs, index } = await session.prefill(tokens);
  return {
    tokens: tokens.length,
    prefillMs: significant(prefillMs),
    extendMs: significant(index?.buildMs ?? 0),
  };
}

async function measureSplits(model: Model, base: Session, options: IndexOptions): Promise<StageSplit[]> {
  const { tokensPerRound, model: file, headDim, bandwidthGBps } = options;
  const decode = (method?: 'full') => async (): Promise<DecodedStep[]> => {
    await using session = base.fork();
    if (method) session.setSelector({ method });
    return await decodeSteps(session, tokensPerRound);
  };
  const samples = await inTurns({ full: decode('full'), ctkvr: decode() }, { ...options, warmUp: true });
  return (['full', 'ctkvr'] as const).map((name) =>
    stageSplit({
      name,
      threads: model.numThreads,
      steps: samples[name]!.flat(),
      modelSizeBytes: file.sizeBytes,
      headDim,
      bandwidthGBps,
    }),
  );
}

/** The first token's wait is not among them: it has no token before it. */
async function decodeSteps(session: Session, numTokens: number): Promise<DecodedStep[]> {
  const steps: DecodedStep[] = [];
  let previousAt: number | null = null;
  for await (const { statistics } of session.generate({ ...greedyGeneration, maxTokens: numTokens + 1 })) {
    const now = performance.now();
    const { timings, counters } = statistics;
    if (previousAt !== null) steps.push({ ms: now - previousAt, timings, counters });
    previousAt = now;
  }
  return steps;
}

function noIndex(context: number): CtkvrError {
  return new CtkvrError(
    'CTKVR_INVALID_OPTION',
    `${context} tokens get no index: give a longer --context, or --dense-below ${context}`,
    { fields: { option: 'context', actual: context } },
  );
}

function noRoom(context: number, trainedContext: number): CtkvrError {
  return new CtkvrError(
    'CTKVR_INVALID_OPTION',
    `--context ${context} leaves too few of the model's ${trainedContext} tokens for what is decoded behind it`,
    { fields: { option: 'context', max: trainedContext, actual: context } },
  );
}
