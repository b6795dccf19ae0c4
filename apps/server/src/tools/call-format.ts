/**
 * How models of one family write calls of tools. Which one a model was trained on is read from its chat template; a model whose template
 * shows none is told to write calls as Hermes does (tools-in-prompt.ts).
 */
export interface CallFormat {
  /** Where a call begins in an answer. */
  readonly opener: string;
  /** Where it ends; null = with the answer. */
  readonly closer: string | null;
  /** Whether an answer that begins with `{` is a call too, without the opener. */
  readonly startsBare: boolean;
  /** The member of a call that has its arguments. */
  readonly argumentsName: 'arguments' | 'parameters';
  /** Whether what stands behind the opener is a list of calls. */
  readonly isList: boolean;
}

const hermes: CallFormat = {
  opener: '<tool_call>',
  closer: '</tool_call>',
  startsBare: false,
  argumentsName: 'arguments',
  isList: false,
};

const llama3: CallFormat = {
  opener: '<|python_tag|>',
  closer: null,
  startsBare: true,
  argumentsName: 'parameters',
  isList: false,
};

const mistral: CallFormat = {
  opener: '[TOOL_CALLS]',
  closer: null,
  startsBare: false,
  argumentsName: 'arguments',
  isList: true,
};

/** Returns the format that a chat template (Jinja source) shows, and whether it also shows the model its tools. */
export function callFormatOf(template: string): { readonly format: CallFormat; readonly showsTools: boolean } {
  const own = /\btools\b/.test(template) ? ownFormat(template) : null;
  return { format: own ?? hermes, showsTools: own !== null };
}

function ownFormat(template: string): CallFormat | null {
  if (template.includes('[TOOL_CALLS]') && !template.includes('[ARGS]')) return mistral;
  if (template.includes('<tool_call>') && !template.includes('<function=')) return hermes;
  return /python_tag|"parameters":/.test(template) ? llama3 : null;
}

export interface WrittenCall {
  readonly name: string;
  /** An object. */
  readonly arguments: object;
}

/** Returns the calls that stand behind an opener; null when something else does. */
export function readCalls(body: string, format: CallFormat): readonly WrittenCall[] | null {
  const value = parsed(body);
  const found = format.isList ? value : value === undefined ? severalIn(body) : [value];
  if (!Array.isArray(found) || found.length === 0) return null;
  const calls = found.map((one: unknown) => toCall(one));
  return calls.every((call) => call !== null) ? calls : null;
}

/** Llama 3 puts a semicolon or a line's end between calls. */
function severalIn(body: string): unknown[] | null {
  const values = body.split(/[;\n]\s*(?=\{)/).map(parsed);
  return values.length > 1 && values.every((value) => value !== undefined) ? values : null;
}

function toCall(value: unknown): WrittenCall | null {
  if (typeof value !== 'object' || value === null) return null;
  const { name, arguments: own, parameters } = value as Record<string, unknown>;
  const given = own ?? parameters ?? {};
  const args = typeof given === 'string' ? parsed(given) : given; // some write the arguments as a text of JSON
  if (typeof name !== 'string' || typeof args !== 'object' || args === null || Array.isArray(args)) return null;
  return { name, arguments: args };
}

/** undefined for what is no JSON. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
