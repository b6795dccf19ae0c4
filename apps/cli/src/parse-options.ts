/** Option values from their texts, and the options that several commands share. Errors name the option, what it takes and what it got. */
import {
  type DeviceChoice,
  deviceCheck,
  type KvFormat,
  kvFormats,
  type PresetName,
  presetNames,
  type SelectorMethod,
  type SelectorOptions,
  selectorMethods,
} from '@ctkvr/core';
import { DEFAULT_MODEL } from '@ctkvr/model-runner';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { decimal, integer } from './parse-numbers.js';
import { addRopeFlags, type RopeFlags } from './rope-flags.js';

/** Returns a parser of `a,b,c`, without repeats, each item read by `parse`. */
export function listOf<T>(parse: (item: string) => T): (text: string) => T[] {
  return (text) => {
    const items = text.split(',').map((item) => item.trim());
    if (new Set(items).size !== items.length) throw new InvalidArgumentError('It names something twice.');
    return items.map((item) => {
      try {
        return parse(item);
      } catch (error) {
        throw new InvalidArgumentError(`${error instanceof Error ? error.message : String(error)}.`);
      }
    });
  };
}

/** Decimal units have B alone, binary ones iB, in any case. */
const unitBytes: Readonly<Record<string, number>> = {
  b: 1,
  ...Object.fromEntries(
    ['k', 'm', 'g', 't'].flatMap((unit, i) => [
      [`${unit}b`, 1000 ** (i + 1)],
      [`${unit}ib`, 1024 ** (i + 1)],
    ]),
  ),
};

/** A parser of sizes: `24GB`, `512MiB`, `1.5 GiB`. Without a unit they would be too easy to get wrong by a factor of a thousand. */
export function size(text: string): number {
  const [, number = '', unit = ''] = /^(\d+(?:\.\d+)?) ?([a-z]+)$/i.exec(text.trim()) ?? [];
  const bytes = Math.floor(Number(number) * (unitBytes[unit.toLowerCase()] ?? Number.NaN));
  if (!(bytes >= 1 && bytes <= Number.MAX_SAFE_INTEGER)) {
    throw new InvalidArgumentError('It must be a size with its unit, such as 24GB or 512MiB.');
  }
  return bytes;
}

const unitMs: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000 };

/** A parser of times, into milliseconds: `90s`, `10m`, `1.5h`. */
export function duration(text: string): number {
  const [, number = '', unit = ''] = /^(\d+(?:\.\d+)?)([smh])$/.exec(text.trim()) ?? [];
  const ms = Math.round(Number(number) * (unitMs[unit] ?? Number.NaN));
  if (!(ms >= 1 && ms <= 0x7fff_ffff)) {
    throw new InvalidArgumentError('It must be a time with its unit, such as 90s, 10m or 1h, and at most 596h.');
  }
  return ms;
}

export interface DeviceOptions {
  readonly device: DeviceChoice;
  /** Bytes. */
  readonly kvDeviceBudget?: number;
  readonly hybridLayers?: number | 'all';
}

/** Of every command that loads a model. */
export function addDeviceOptions(command: Command): Command {
  return command
    .option(
      '--device <device>',
      'what computes: cpu, cuda (the first device), cuda:N, or auto (a device where one can be used, else the CPU)',
      device,
      'cpu',
    )
    .option('--kv-device-budget <size>', "the most of the device's memory for keys and values, as 24GB or 512MiB", size)
    .option(
      '--hybrid-layers <count>',
      'layers whose keys and values are in host memory, where the CPU attends to what the device finds: a number, or all',
      layerCount,
    );
}

function device(text: string): DeviceChoice {
  if (deviceCheck.accepts(text)) return text as DeviceChoice;
  const remedy = deviceCheck.remedy?.(text);
  const question = remedy === undefined ? '' : ` ${remedy[0]!.toUpperCase()}${remedy.slice(1)}`;
  throw new InvalidArgumentError(`It must be ${deviceCheck.expected}.${question}`);
}

function layerCount(text: string): number | 'all' {
  if (text === 'all') return text;
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('It must be a whole number, or all.');
  return Number(text);
}

/** As loadModel takes them. */
export function deviceSettings({ device, kvDeviceBudget, hybridLayers }: DeviceOptions) {
  return {
    device,
    ...(kvDeviceBudget === undefined ? {} : { kvDeviceBudgetBytes: kvDeviceBudget }),
    ...(hybridLayers === undefined ? {} : { hybridLayers }),
  };
}

export interface ModelOptions extends DeviceOptions, RopeFlags {
  readonly model: string;
  readonly context?: number;
  readonly threads: number;
  readonly mapWeights: boolean;
  /** File with a Jinja template. */
  readonly chatTemplate?: string;
}

const modelDescription = 'path of a GGUF file, catalogue name, or owner/repo:file on the Hugging Face hub';

export function addModelOptions(command: Command): Command {
  return addLoadOptions(command.option('-m, --model <model>', modelDescription, DEFAULT_MODEL));
}

/** For a command that takes several models. */
export function addModelsOptions(command: Command): Command {
  const description = `${modelDescription}; several are loaded when a request names them`;
  return addLoadOptions(command.option('-m, --model <model...>', description, [DEFAULT_MODEL]));
}

function addLoadOptions(command: Command): Command {
  command
    .option(
      '--context <tokens>',
      'tokens of prompt and answer together (default: what the model was trained for)',
      integer(1),
    )
    .option('--threads <count>', 'threads; 0 = all this process may use', integer(0, 1024), 0)
    .option('--map-weights', 'share the weights with other processes of the same model; slower', false)
    .option('--chat-template <file>', "Jinja template that replaces the model's own");
  return addDeviceOptions(addRopeFlags(command));
}

/** `--kv-format`, of every command that makes a session. */
export function kvFormatOption(): Option {
  return new Option(
    '--kv-format <format>',
    'how keys and values are stored: q8 = 8-bit codes and scales, 9/16 of the memory of f16',
  )
    .choices(kvFormats)
    .default('f16');
}

export interface SelectorFlags {
  readonly selector?: SelectorMethod;
  readonly preset: PresetName;
  readonly maxSelected?: number;
  readonly kvFormat: KvFormat;
}

export function addSelectorOptions(command: Command): Command {
  return command
    .addOption(kvFormatOption())
    .addOption(new Option('--selector <name>', 'which keys a step reads (default: ctkvr)').choices(selectorMethods))
    .addOption(new Option('--preset <name>', 'settings of the selector').choices(presetNames).default('balanced'))
    .option('--max-selected <count>', 'values read per KV head and token; 0 = those of all candidates', integer(0));
}

export function selectorSettings(flags: SelectorFlags): Partial<SelectorOptions> & { preset: PresetName } {
  return {
    preset: flags.preset,
    ...(flags.selector === undefined ? {} : { method: flags.selector }),
    ...(flags.maxSelected === undefined ? {} : { maxSelected: flags.maxSelected }),
  };
}

export interface SamplingFlags {
  readonly seed?: number;
  readonly temperature: number;
  readonly topP: number;
  readonly topK: number;
  readonly repeatPenalty: number;
  readonly maxTokens: number;
}

export function addSamplingOptions(command: Command): Command {
  return command
    .option('--temperature <value>', '0 = always the likeliest token', decimal(0, 10), 0)
    .option('--top-p <value>', 'smallest set of tokens with this probability; 1 = off', decimal(0, 1), 1)
    .option('--top-k <count>', 'only this many likeliest tokens; 0 = off', integer(0, 0x7fff_ffff), 0)
    .option(
      '--repeat-penalty <value>',
      'above 1, the last 64 tokens (of the text too) become less likely; 1 = off',
      decimal(0.01, 100),
      1,
    )
    .option(
      '--seed <number>',
      'replays a drawn answer (default: a new one each time, printed with --json)',
      integer(0, 0xffff_ffff),
    )
    .option('--max-tokens <count>', 'longest answer', integer(1), 512);
}

/** minP is off: the options that are shown are the only ones that act. */
export function samplingOf({ temperature, topP, topK, repeatPenalty, seed }: SamplingFlags) {
  return { temperature, topP, topK, repeatPenalty, minP: 0, ...(seed === undefined ? {} : { seed }) };
}
