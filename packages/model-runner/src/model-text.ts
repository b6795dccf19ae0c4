/** Texts and conversations as a model's tokens, and back. */
import { checkOption, checkOptions, takes } from '@ctkvr/core';
import type { NativeModel } from '@ctkvr/native';
import type { ChatMessage } from './chat-template.js';
import type { TextPiece } from './control-text.js';
import { LeastTokens } from './least-tokens.js';
import { ModelTemplate } from './model-template.js';
import { checkMessages } from './prompt-plan.js';

export interface ApplyTemplateOptions {
  /** Whether the text ends where the model's answer begins. Default true. */
  readonly addGenerationPrompt?: boolean | undefined;
  /** Whether the last message, an assistant's, is an answer that has begun: the text ends with its content. Default false. */
  readonly continueFinalMessage?: boolean | undefined;
  /** Further variables of the template, such as `enable_thinking`. Which there are is up to the template. */
  readonly variables?: Readonly<Record<string, unknown>> | undefined;
  /** Refuses a text that cannot be as few tokens as these, without tokenizing it. */
  readonly maxTokens?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface TokenizeOptions {
  /** Whether control tokens in the text become tokens. Default false. */
  readonly parseSpecial?: boolean | undefined;
  /** As that of `ApplyTemplateOptions`. */
  readonly maxTokens?: number | undefined;
}

export interface DetokenizeOptions {
  /** Whether control tokens give their texts. Default false. */
  readonly special?: boolean | undefined;
}

const detokenizeChecks = { special: takes.optional(takes.boolean) };

const maxTokensCheck = takes.optional(takes.integer(1, 0x7fff_ffff));

const tokenizeChecks = { parseSpecial: takes.optional(takes.boolean), maxTokens: maxTokensCheck };

const templateChecks = {
  addGenerationPrompt: takes.optional(takes.boolean),
  continueFinalMessage: takes.optional(takes.boolean),
  variables: takes.optional(takes.object),
  maxTokens: maxTokensCheck,
  signal: takes.optional(takes.abortSignal),
};

export class ModelText {
  readonly template: ModelTemplate;
  readonly #native: NativeModel;
  readonly #leastTokens: LeastTokens;

  /** @param chatTemplate Jinja source that replaces the GGUF's. */
  constructor(native: NativeModel, chatTemplate: string | null) {
    this.#native = native;
    this.template = new ModelTemplate(native, chatTemplate);
    this.#leastTokens = new LeastTokens({
      size: native.info.vocabSize,
      tokenBytes: (tokenId) => native.tokenBytes(tokenId, true),
    });
  }

  /** `Model.tokenize`. */
  async tokenize(text: string, options: TokenizeOptions): Promise<Int32Array> {
    checkOption('tokenize', 'text', text, takes.text);
    checkOptions('tokenize', options, tokenizeChecks);
    if (options.maxTokens !== undefined) await this.#leastTokens.check(text.length, options.maxTokens);
    return await this.#native.tokenize(text, options.parseSpecial ?? false);
  }

  /** `Model.detokenize`. */
  detokenize(tokens: ArrayLike<number>, options: DetokenizeOptions): string {
    checkOptions('detokenize', options, detokenizeChecks);
    const { special = false } = options;
    return Buffer.concat(Array.from(tokens, (tokenId) => this.#native.tokenBytes(tokenId, special))).toString('utf8');
  }

  /** `Model.tokenBytes`. */
  tokenBytes(tokenId: number, options: DetokenizeOptions): Uint8Array {
    checkOptions('tokenBytes', options, detokenizeChecks);
    return this.#native.tokenBytes(tokenId, options.special ?? false);
  }

  /** `Model.applyChatTemplate`. */
  async applyTemplate(messages: readonly ChatMessage[], options: ApplyTemplateOptions): Promise<Int32Array> {
    const pieces = await this.#render('applyChatTemplate', messages, options);
    if (options.maxTokens !== undefined) {
      const length = pieces.reduce((sum, { text, tokenId }) => sum + (tokenId === null ? text.length : 0), 0);
      await this.#leastTokens.check(length, options.maxTokens);
    }
    const ids = await this.tokenizePieces(pieces);
    return Int32Array.from(this.lacksBos(ids) ? [this.#native.info.bosTokenId ?? 0, ...ids] : ids);
  }

  /** `Model.renderChatTemplate`. */
  async renderTemplate(messages: readonly ChatMessage[], options: ApplyTemplateOptions): Promise<string> {
    const pieces = await this.#render('renderChatTemplate', messages, options);
    return pieces.map(({ text }) => text).join('');
  }

  /** Whether the model wants a BOS that the tokens do not begin with. */
  lacksBos(tokens: ArrayLike<number>): boolean {
    const { addBos, bosTokenId } = this.#native.info;
    return addBos && bosTokenId !== null && tokens[0] !== bosTokenId;
  }

  async tokenizePieces(pieces: readonly TextPiece[]): Promise<number[]> {
    const ids: number[] = [];
    for (const { text, tokenId } of pieces) {
      if (tokenId !== null) ids.push(tokenId);
      else for (const id of await this.#native.tokenize(text, false)) ids.push(id);
    }
    return ids;
  }

  async #render(op: string, messages: readonly ChatMessage[], options: ApplyTemplateOptions): Promise<TextPiece[]> {
    checkMessages(messages);
    checkOptions(op, options, templateChecks);
    const { addGenerationPrompt = true, maxTokens: _, signal, ...more } = options;
    return (await this.template.get().render(messages, { addGenerationPrompt, ...more }, signal)).split();
  }
}
