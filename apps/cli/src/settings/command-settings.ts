/**
 * The options of a command from everywhere: flags go before the environment (`CTKVR_MAX_RUNNING`), that before a configuration file
 * (`maxRunning`), that before the defaults. All are read by the option's own parser.
 */
import { CtkvrError, nearestName } from '@ctkvr/core';
import { type Command, CommanderError, type Option } from 'commander';

export interface SettingSources {
  readonly env: NodeJS.ProcessEnv;
  readonly file: { readonly path: string; readonly content: Readonly<Record<string, unknown>> } | null;
}

interface Given {
  readonly texts: readonly string[];
  /** For people: a flag, a variable, or a file and a name in it. */
  readonly from: string;
}

export class CommandSettings {
  readonly #command: Command;
  readonly #options: readonly Option[];
  readonly #given = new Map<Option, Given>();

  /** @param except names of options that are no settings. To be made before the command line is parsed. */
  constructor(command: Command, except: readonly string[]) {
    this.#command = command;
    this.#options = command.options.filter((option) => !except.includes(option.attributeName()));
    for (const option of this.#options) {
      command.on(`option:${option.name()}`, (text: string | null) => {
        const before = option.variadic ? (this.#given.get(option)?.texts ?? []) : [];
        this.#given.set(option, { texts: [...before, text ?? 'true'], from: option.long ?? option.name() });
      });
    }
  }

  /** Names in a configuration file. */
  get names(): string[] {
    return this.#options.map((option) => option.attributeName());
  }

  /** Gives the command the values that no flag gave. @throws {CtkvrError} CTKVR_INVALID_OPTION naming what is wrong, and where it is. */
  apply({ env, file }: SettingSources): void {
    for (const name of Object.keys(file?.content ?? {})) {
      if (!this.names.includes(name)) throw unknownSetting(name, { path: file!.path, known: this.names });
    }
    for (const option of this.#options) {
      if (this.#given.has(option)) continue;
      const given = fromEnvironment(option, env) ?? (file === null ? null : fromFile(option, file));
      if (given === null) continue;
      this.#given.set(option, given);
      this.#command.setOptionValueWithSource(option.attributeName(), parse(option, given), 'config');
    }
  }

  /** What is in force, as a configuration file would say it. */
  toConfig(): Record<string, unknown> {
    const config: Record<string, unknown> = {};
    for (const option of this.#options) {
      const name = option.attributeName();
      const value = this.#command.getOptionValue(name);
      const texts = this.#given.get(option)?.texts;
      // A text that was parsed to something else, such as a size, stays the text that says it.
      if (value !== undefined) config[name] = isPlain(value, texts) ? value : (texts?.at(-1) ?? value);
    }
    return config;
  }

  /** One line for each setting that is no default: `maxRunning: from CTKVR_MAX_RUNNING`. */
  describe(): string[] {
    return [...this.#given].map(([option, { from }]) => `${option.attributeName()}: from ${from}`);
  }
}

/** `CTKVR_MAX_RUNNING` for `--max-running`. */
function variableOf(option: Option): string {
  return `CTKVR_${option.name().toUpperCase().replaceAll('-', '_')}`;
}

function fromEnvironment(option: Option, env: NodeJS.ProcessEnv): Given | null {
  const from = variableOf(option);
  const text = env[from];
  if (text === undefined || text === '') return null; // as where a variable of a compose file is not set
  return { texts: option.variadic ? text.split(',') : [text], from };
}

function fromFile(option: Option, { path, content }: NonNullable<SettingSources['file']>): Given | null {
  const name = option.attributeName();
  const value = content[name];
  if (value === undefined) return null;
  const from = `${path}:${name}`;
  const values = option.variadic && Array.isArray(value) ? value : [value];
  for (const one of values) {
    if (!['string', 'number', 'boolean'].includes(typeof one)) {
      const expected = option.variadic ? 'a list of texts' : 'a text, a number, true or false';
      throw invalid(`${from} must be ${expected}, got ${JSON.stringify(one)}`, from);
    }
  }
  return { texts: values.map(String), from };
}

function parse(option: Option, { texts, from }: Given): unknown {
  let value: unknown;
  for (const text of texts) {
    try {
      value = parseOne(option, text, value);
    } catch (error) {
      if (!(error instanceof CommanderError)) throw error;
      throw invalid(`${from} cannot be '${text}'. ${error.message}`, from);
    }
  }
  return value;
}

function parseOne(option: Option, text: string, before: unknown): unknown {
  if (option.isBoolean()) {
    if (text !== 'true' && text !== 'false') throw new CommanderError(1, '', 'It must be true or false.');
    return text === 'true';
  }
  if (option.parseArg !== undefined) return option.parseArg(text, before);
  return option.variadic ? [...((before as string[] | undefined) ?? []), text] : text;
}

function isPlain(value: unknown, texts: readonly string[] | undefined): boolean {
  return texts === undefined || typeof value !== 'number' || String(value) === texts.at(-1);
}

function unknownSetting(name: string, { path, known }: { path: string; known: readonly string[] }): CtkvrError {
  const nearest = nearestName(name, known);
  const advice = nearest === null ? `there are ${known.join(', ')}` : `did you mean ${nearest}?`;
  return new CtkvrError('CTKVR_INVALID_OPTION', `${path}: there is no setting ${name}; ${advice}`, {
    fields: { option: name, nearest, path },
  });
}

function invalid(message: string, option: string): CtkvrError {
  return new CtkvrError('CTKVR_INVALID_OPTION', message, { fields: { option } });
}
