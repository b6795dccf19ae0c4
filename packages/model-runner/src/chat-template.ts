/** Renders messages through a model's Jinja chat template, control tokens in the content kept harmless (control-text.ts). */
import { CtkvrError } from '@ctkvr/core';
import { Template } from '@huggingface/jinja';
import { ControlText, type ControlToken, type TextPiece } from './control-text.js';

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
}

/** A rendered conversation whose content is still guarded; `split` gives its pieces. */
export interface RenderedChat {
  readonly text: string;
  /** Returns the pieces of the rendered text from UTF-16 index `from` on. */
  split(from?: number): TextPiece[];
}

export class ChatTemplate {
  readonly #template: Template;
  readonly #options: ChatTemplateOptions;

  /** @throws {CtkvrError} CTKVR_INVALID_OPTION when the template does not parse. */
  constructor(options: ChatTemplateOptions) {
    this.#options = options;
    try {
      this.#template = new Template(options.source);
    } catch (cause) {
      throw templateError('cannot be parsed', cause);
    }
  }

  /**
   * Renders several views of one conversation with the same guard, so that their texts can be compared.
   * @throws {CtkvrError} CTKVR_INVALID_OPTION when the template refuses the messages.
   */
  renderAll(
    views: readonly { readonly messages: readonly ChatMessage[]; readonly options: RenderOptions }[],
  ): RenderedChat[] {
    const contents = views.flatMap((view) => strings(view.messages));
    const control = new ControlText(this.#options.controlTokens, contents);
    return views.map(({ messages, options }) => {
      const text = this.#render(
        mapStrings(messages, (value) => control.hide(value)),
        options,
      );
      return { text, split: (from = 0) => control.split(text.slice(from)) };
    });
  }

  /** Renders one conversation. @throws {CtkvrError} CTKVR_INVALID_OPTION when the template refuses the messages. */
  render(messages: readonly ChatMessage[], options: RenderOptions): RenderedChat {
    const [rendered] = this.renderAll([{ messages, options }]);
    if (rendered === undefined) throw new CtkvrError('CTKVR_INTERNAL', 'one view must give one rendered conversation');
    return rendered;
  }

  #render(messages: unknown, { addGenerationPrompt }: RenderOptions): string {
    try {
      return this.#template.render({
        messages,
        add_generation_prompt: addGenerationPrompt,
        bos_token: this.#options.bosToken,
        eos_token: this.#options.eosToken,
      });
    } catch (cause) {
      throw templateError('refused the messages', cause);
    }
  }
}

function templateError(what: string, cause: unknown): CtkvrError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new CtkvrError(
    'CTKVR_INVALID_OPTION',
    `the model's chat template ${what}: ${reason}. Pass plain text or tokens, or another template in loadModel's chatTemplate`,
    { fields: { option: 'messages', reason }, cause },
  );
}

/** Every string in messages except the role, which templates compare with fixed words. */
function mapStrings(value: unknown, map: (text: string) => string, key = ''): unknown {
  if (typeof value === 'string') return key === 'role' ? value : map(value);
  if (Array.isArray(value)) return value.map((item) => mapStrings(item, map));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, mapStrings(item, map, name)]));
}

function strings(value: unknown): string[] {
  const found: string[] = [];
  mapStrings(value, (text) => {
    found.push(text);
    return text;
  });
  return found;
}
