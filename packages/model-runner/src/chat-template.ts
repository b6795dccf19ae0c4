/** Renders messages through a model's Jinja chat template, control tokens in the content kept harmless (control-text.ts). */
import { CtkvrError } from '@ctkvr/core';
import { ControlText, type ControlToken, type TextPiece } from './control-text.js';
import type { TemplateRenderer } from './template-renderer.js';

/** One message of a conversation. Further fields reach the template. */
export interface ChatMessage {
  /** Usually 'system', 'user' or 'assistant': what the template knows. */
  readonly role: string;
  readonly content: string;
  readonly [field: string]: unknown;
}

export interface ChatTemplateOptions {
  /** Jinja source, from the GGUF or from the caller. */
  readonly source: string;
  /** Longest first. */
  readonly controlTokens: readonly ControlToken[];
  readonly bosToken: string;
  readonly eosToken: string;
}

export interface RenderOptions {
  /** Whether the text ends where the model's answer begins. */
  readonly addGenerationPrompt: boolean;
  /** Whether it ends with the content of the last message, an assistant's, so that the model goes on with it. Default false. */
  readonly continueFinalMessage?: boolean | undefined;
  /** Further variables of the template, such as `enable_thinking`. */
  readonly variables?: Readonly<Record<string, unknown>> | undefined;
}

/** Variables that every rendering sets itself. */
export const ownTemplateVariables: readonly string[] = ['messages', 'add_generation_prompt', 'bos_token', 'eos_token'];

/** A rendered conversation whose content is still guarded; `split` gives its pieces. */
export interface RenderedChat {
  readonly text: string;
  /** Returns the pieces of the rendered text from UTF-16 index `from` on. */
  split(from?: number): TextPiece[];
}

/** What a text may have beyond four times the characters of its messages: the template's own words. */
const OWN_OUTPUT_LENGTH = 1 << 20;

export class ChatTemplate {
  readonly #options: ChatTemplateOptions;
  readonly #renderer: TemplateRenderer;

  /** A template that does not parse says so when it is first rendered. */
  constructor(options: ChatTemplateOptions, renderer: TemplateRenderer) {
    this.#options = options;
    this.#renderer = renderer;
  }

  /**
   * Renders several views of one conversation with the same guard, so that their texts can be compared.
   * @throws {CtkvrError} CTKVR_INVALID_OPTION when the template cannot be parsed, refuses the messages or goes beyond its limits; CTKVR_ABORTED.
   */
  async renderAll(
    views: readonly { readonly messages: readonly ChatMessage[]; readonly options: RenderOptions }[],
    signal?: AbortSignal,
  ): Promise<RenderedChat[]> {
    const contents = views.flatMap((view) => [...strings(view.messages), ...strings(view.options.variables)]);
    const control = new ControlText(this.#options.controlTokens, contents);
    const { source, bosToken, eosToken } = this.#options;
    const length = contents.reduce((sum, content) => sum + content.length, 0);
    const texts = await this.#renderer.render(
      {
        source,
        views: views.map(({ messages, options }) => {
          const { continueFinalMessage: goesOn = false, addGenerationPrompt, variables } = options;
          checkVariables(variables);
          if (goesOn) finalAnswer(messages);
          const hide = (text: string) => control.hide(text);
          const hideName = (name: string) => control.hideWhole(name);
          const shown = goesOn ? messages.slice(0, -1) : messages;
          return {
            ...mapStrings({ ...variables }, hide, hideName),
            // Not the role, which templates compare with fixed words.
            messages: shown.map((message) => ({ ...mapStrings(message, hide, hideName), role: message.role })),
            add_generation_prompt: goesOn || addGenerationPrompt,
            bos_token: bosToken,
            eos_token: eosToken,
          };
        }),
        outputLength: OWN_OUTPUT_LENGTH + 4 * length,
      },
      signal,
    );
    return texts.map((rendered, index) => {
      const { messages, options } = views[index]!;
      // The template would end the message; an answer that begins like it is the same text without that end.
      const text = options.continueFinalMessage ? rendered + control.hide(finalAnswer(messages)) : rendered;
      return { text, split: (from = 0) => control.split(text.slice(from)) };
    });
  }

  /** Renders one conversation. @throws {CtkvrError} as `renderAll`. */
  async render(messages: readonly ChatMessage[], options: RenderOptions, signal?: AbortSignal): Promise<RenderedChat> {
    const [rendered] = await this.renderAll([{ messages, options }], signal);
    if (rendered === undefined) throw new CtkvrError('CTKVR_INTERNAL', 'one view must give one rendered conversation');
    return rendered;
  }
}

/** @throws {CtkvrError} CTKVR_INVALID_OPTION when the last message is no assistant's. */
function finalAnswer(messages: readonly ChatMessage[]): string {
  const last = messages.at(-1);
  if (last?.role === 'assistant') return last.content;
  throw new CtkvrError(
    'CTKVR_INVALID_OPTION',
    `only an assistant's message can be continued, and the last one is ${last === undefined ? 'not there' : `of '${last.role}'`}`,
    { fields: { option: 'continueFinalMessage' } },
  );
}

function checkVariables(variables: RenderOptions['variables']): void {
  const own = ownTemplateVariables.find((name) => Object.hasOwn(variables ?? {}, name));
  if (own === undefined) return;
  throw new CtkvrError('CTKVR_INVALID_OPTION', `the template's variable '${own}' is set by other options`, {
    fields: { option: 'variables', name: own },
  });
}

type MapText = (text: string) => string;

/** Returns a copy with every string in it mapped, at every depth, and every field's name. */
function mapStrings<T>(value: T, map: MapText, mapName: MapText): T;
function mapStrings(value: unknown, map: MapText, mapName: MapText): unknown {
  if (typeof value === 'string') return map(value);
  if (Array.isArray(value)) return value.map((item) => mapStrings(item, map, mapName));
  if (typeof value !== 'object' || value === null) return value;
  const fields = Object.entries(value).map(([name, item]) => [mapName(name), mapStrings(item, map, mapName)]);
  return Object.fromEntries(fields) as unknown;
}

function strings(value: unknown): string[] {
  const found: string[] = [];
  const add = (text: string) => {
    found.push(text);
    return text;
  };
  mapStrings(value, add, add);
  return found;
}
