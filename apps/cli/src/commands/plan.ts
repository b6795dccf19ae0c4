/** `ctkvr plan`: where keys and values would go on a card, how long a token would take, or which card is needed. Loads no model. */
import { writeFile } from 'node:fs/promises';
import { CtkvrError, type KvFormat, kvFormats, resolveSelectorOptions } from '@ctkvr/core';
import {
  type CardPlans,
  type DeviceSpec,
  type HostSpec,
  LEAST_CONTEXT,
  type Plan,
  plan,
  planCards,
  type ReadSetting,
  readSettings,
  type WeightFormat,
  type Workload,
  weightFormats,
} from '@ctkvr/scheduler';
import { Command, Option } from 'commander';
import type { CommandContext, RunAction } from '../command-context.js';
import { outputError, print, printJson } from '../console-io.js';
import { decimal, integer } from '../parse-numbers.js';
import { readCalibration } from '../plan/calibration-file.js';
import { describeCards } from '../plan/describe-cards.js';
import { describePlan } from '../plan/describe-plan.js';
import { drawTimeline } from '../plan/draw-timeline.js';
import { modelOf } from '../plan/model-of.js';
import { HERE, parseCard, parseHost } from '../plan/parse-machine.js';

interface PlanFlags {
  readonly model: string;
  readonly context: number;
  readonly sequences: number;
  readonly gpu?: DeviceSpec;
  readonly host: HostSpec | typeof HERE;
  readonly weights?: WeightFormat;
  readonly kvFormat: KvFormat;
  readonly reads: ReadSetting;
  readonly clusterFormat: KvFormat;
  readonly retrievalClusterShare: number;
  readonly svg?: string;
  readonly json: boolean;
}

const DEFAULT_HOST = '128GB@230GB/s';

export function planCommand(run: RunAction): Command {
  const engine = resolveSelectorOptions();
  return new Command('plan')
    .description('Predict placement, memory and time of a token on a card; without --gpu, which card is needed')
    .requiredOption(
      '-m, --model <model>',
      'llama-3-8b, yi-9b, smollm2-135m, qwen2.5-coder-0.5b, a GGUF file, or layers=..,heads=..,kvHeads=..,headDim=..,params=..',
    )
    .requiredOption('--context <tokens>', 'tokens of each sequence', integer(LEAST_CONTEXT, 0x7fff_ffff))
    .option('--sequences <count>', 'sequences that decode together', integer(1, 1_000_000), 1)
    .option('--gpu <card>', "name of a known card, or memory and its maker's bandwidth: 80GB@3350GB/s", parseCard)
    .addOption(
      new Option('--host <machine>', 'memory and measured bandwidth, or here: as doctor --calibrate measured')
        .argParser(parseHost)
        .default(parseHost(DEFAULT_HOST), DEFAULT_HOST),
    )
    .addOption(new Option('--weights <format>', "default: the file's, else f16").choices(weightFormats))
    .addOption(
      new Option('--kv, --kv-format <format>', 'how keys and values are stored').choices(kvFormats).default('f16'),
    )
    .addOption(
      new Option('--reads <setting>', 'counts of keys and values: for large groups, for this model, as in the paper')
        .choices(readSettings)
        .default('widest'),
    )
    .addOption(
      new Option('--cluster-format <format>', "the selector's clusterFormat")
        .choices(kvFormats)
        .default(engine.clusterFormat),
    )
    .addOption(
      new Option('--retrieval-cluster-share <share>', "the selector's retrievalClusterShare")
        .argParser(decimal(0, 1))
        .default(engine.retrievalClusterShare),
    )
    .option('--svg <file>', 'also draw a layer of the step, its device and host side by side; needs --gpu')
    .option('--json', 'print everything as JSON', false)
    .action((flags: PlanFlags) => run((context) => runPlan(flags, context)));
}

async function runPlan(flags: PlanFlags, { io }: CommandContext): Promise<void> {
  const { context, sequences, gpu, weights, kvFormat, reads, clusterFormat, retrievalClusterShare, svg } = flags;
  if (svg !== undefined && gpu === undefined) {
    throw new CtkvrError('CTKVR_INVALID_OPTION', '--svg draws a step on one card, got no --gpu; name the card', {
      fields: { option: 'svg', expected: '--gpu beside it' },
    });
  }
  const model = await modelOf(flags.model);
  const host = flags.host === HERE ? await hostHere() : flags.host;
  const selector = { clusterFormat, retrievalClusterShare };
  const chosen = weights === undefined ? {} : { weights };
  const workload: Workload = { model, context, sequences, kvFormat, reads, selector, ...chosen };
  if (gpu === undefined) {
    const cards = planCards({ ...workload, host });
    await (flags.json ? printJson(io, cardsJson(cards)) : print(io, describeCards(cards, workload, host)));
    return;
  }
  const found = plan({ ...workload, host, devices: [gpu] });
  if (svg !== undefined) {
    await writeFile(svg, drawTimeline(found)).catch((error) => {
      throw outputError(svg, error);
    });
  }
  await (flags.json ? printJson(io, planJson(found)) : print(io, describePlan(found, workload)));
}

async function hostHere(): Promise<HostSpec> {
  const { memoryBytes, gigabytesPerSecond, cores } = await readCalibration();
  return { memoryBytes, gigabytesPerSecond, cores };
}

/** Without the timelines: thousands of events that a picture shows better. */
function planJson({ uniform, time, ...rest }: Plan) {
  const { timeline, ...times } = time;
  return {
    predicted: true,
    ...rest,
    time: times,
    uniform: uniform.map(({ time: { totalMs }, ...step }) => ({ ...step, totalMs })),
  };
}

function cardsJson({ needs, cards }: CardPlans) {
  return {
    predicted: true,
    needs,
    cards: cards.map(({ card, plan: found }) => ({ card, plan: found === null ? null : planJson(found) })),
  };
}
