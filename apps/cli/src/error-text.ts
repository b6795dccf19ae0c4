/**
 * What a command prints about an error. The packages' errors name options and functions in their remedy; here they are replaced by the flags
 * of the command line.
 */
import { CtkvrError, countOf } from '@ctkvr/core';

/** Returns the message of an error that a user can fix; of any other, with how to report it. */
export function errorText(error: unknown, env: NodeJS.ProcessEnv): string {
  if (CtkvrError.isInstance(error) && error.code !== 'CTKVR_INTERNAL') return forCommandLine(error);
  if (env.CTKVR_DEBUG && error instanceof Error) return error.stack ?? error.message;
  const message = error instanceof Error ? error.message : String(error);
  return `${message} (this is a bug of ctkvr; CTKVR_DEBUG=1 shows where, please report it)`;
}

/** Returns the error's message with options as flags and a remedy that the command line has. */
export function forCommandLine(error: CtkvrError): string {
  // An error of another copy of the package may have no remedy.
  const remedy = error.remedy ?? null;
  const ours = remedyOf(error) ?? (remedy === null ? null : withFlags(remedy));
  return problemOf(error) + (ours === null ? '' : `; ${ours}`);
}

/** The error's message without its remedy. */
export function problemOf(error: CtkvrError): string {
  const { code, fields, message } = error;
  const { needed, maxNew, contextLength } = fields;
  if (code === 'CTKVR_CONTEXT_EXCEEDED' && typeof needed === 'number' && typeof maxNew === 'number') {
    // A session is nothing that the command line knows: there are text and answer.
    const what =
      maxNew === 0
        ? `text and question take ${countOf(needed, 'token')}`
        : `${countOf(needed - maxNew, 'token')} of text and questions and ${maxNew} of answer are needed`;
    return `${what}, the context holds ${contextLength}`;
  }
  const remedy = error.remedy ?? null;
  return withFlags(remedy === null ? message : message.slice(0, -`; ${remedy}`.length));
}

function remedyOf({ code, fields }: CtkvrError): string | null {
  if (code === 'CTKVR_CONTEXT_EXCEEDED') {
    const { contextLength, trainedContext, maxNew } = fields;
    const remedies = ['give less text'];
    if (maxNew !== 0) remedies.push('lower --max-tokens');
    const canGrow = Number(contextLength) < Number(trainedContext);
    remedies.push(canGrow ? `raise --context up to ${trainedContext}` : 'take a model with a longer context');
    return `${remedies.slice(0, -1).join(', ')}, or ${remedies.at(-1)}`;
  }
  if (code === 'CTKVR_OUT_OF_MEMORY' && Number(fields.fittingContextLength) > 0) {
    return `--context ${fields.fittingContextLength} would fit`;
  }
  if (code === 'CTKVR_DEVICE_UNAVAILABLE') {
    return '`ctkvr doctor` says what there is; --device cpu does without, --device auto where it must';
  }
  if ((fields.option === 'kvDeviceBudgetBytes' || fields.option === 'hybridLayers') && fields.device === 'cpu')
    return 'give --device auto or --device cuda too';
  if (fields.option === 'contextLength' && typeof fields.max === 'number')
    return `give --context ${fields.max} or less, or stretch it with --rope-scale`;
  if (fields.option === 'chatTemplate') return 'name a file with another template in --chat-template';
  return null;
}

/** Options of the packages, and the flags that set them. */
const flags: Readonly<Record<string, string>> = {
  contextLength: '--context',
  numThreads: '--threads',
  mapWeights: '--map-weights',
  chatTemplate: '--chat-template',
  kvFormat: '--kv-format',
  kvDeviceBudgetBytes: '--kv-device-budget',
  hybridLayers: '--hybrid-layers',
  ropeFreqScale: '--rope-scale',
  ropeFreqBase: '--rope-freq-base',
  maxBytes: '--store-limit',
  maxSelected: '--max-selected',
  maxTokens: '--max-tokens',
  'sampling.temperature': '--temperature',
  'sampling.topP': '--top-p',
  'sampling.topK': '--top-k',
  'sampling.repeatPenalty': '--repeat-penalty',
  'sampling.seed': '--seed',
};

function withFlags(text: string): string {
  return Object.entries(flags).reduce((changed, [option, flag]) => {
    const word = new RegExp(`(?<![\\w./=:-])${option.replace('.', '\\.')}(?![\\w=.])`, 'g');
    return changed.replace(word, flag);
  }, text);
}
