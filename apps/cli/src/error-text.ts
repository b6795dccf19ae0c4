/**
 * What a command prints about an error. The packages' errors name options and functions in their remedy; here they are replaced by the flags
 * of the command line.
 */
import { CtkvrError } from '@ctkvr/core';

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
  const problem = remedy === null ? error.message : error.message.slice(0, -`; ${remedy}`.length);
  const ours = remedyOf(error) ?? (remedy === null ? null : withFlags(remedy));
  return withFlags(problem) + (ours === null ? '' : `; ${ours}`);
}

function remedyOf({ code, fields }: CtkvrError): string | null {
  if (code === 'CTKVR_CONTEXT_EXCEEDED') {
    return 'give less text, lower --max-tokens, or raise --context as far as the model goes';
  }
  if (code === 'CTKVR_OUT_OF_MEMORY' && Number(fields.fittingContextLength) > 0) {
    return `--context ${fields.fittingContextLength} would fit`;
  }
  if (fields.option === 'contextLength' && typeof fields.max === 'number')
    return `give --context ${fields.max} or less`;
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
