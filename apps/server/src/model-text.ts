/** The tokenizer and the chat template of a loaded model, as the routes need them. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { CtkvrError } from '@ctkvr/core';
import type { ApplyTemplateOptions, Model } from '@ctkvr/model-runner';
import type { EngineText, TextFacts, TokenizeOptions } from './chat-engine.js';
import type { ChatMessage, MessagesPrompt, Prompt } from './generation-request.js';
import { templateVariables } from './template-variables.js';
import { withTools } from './tools/tools-in-prompt.js';
import { withToolsAsText } from './tools-as-text.js';

export class ModelText implements EngineText {
  readonly vocabSize: number;
  readonly bosToken: string;
  readonly eosToken: string;
  readonly #model: Model;

  constructor(model: Model) {
    this.#model = model;
    this.vocabSize = model.info.vocabSize;
    this.bosToken = textOf(model, model.info.bosTokenId);
    this.eosToken = textOf(model, model.info.eosTokenId);
  }

  get chatTemplate(): string | null {
    return this.#model.chatTemplate;
  }

  async facts(): Promise<TextFacts> {
    const { vocabSize, bosToken, eosToken, chatTemplate } = this;
    return { vocabSize, bosToken, eosToken, chatTemplate };
  }

  /** @throws {CtkvrError} CTKVR_INVALID_OPTION for a prompt without tokens, or with tokens of another model; what the template throws; CTKVR_CONTEXT_EXCEEDED. */
  async tokensOf(prompt: Prompt, signal: AbortSignal, maxTokens?: number): Promise<Int32Array> {
    if (prompt.type === 'messages') {
      const [messages, options] = this.#rendering(prompt, signal);
      return await this.#model.applyChatTemplate(messages, { ...options, maxTokens });
    }
    if (prompt.type === 'tokens') this.#checkTokens(prompt.tokens);
    const tokens =
      prompt.type === 'tokens'
        ? Int32Array.from(prompt.tokens)
        : await this.tokenize(prompt.text, { addSpecial: prompt.addSpecial, parseSpecial: true, maxTokens });
    if (tokens.length === 0) throw new CtkvrError('CTKVR_INVALID_OPTION', 'The prompt is empty.');
    return tokens;
  }

  async tokenize(
    text: string,
    { addSpecial, parseSpecial, maxTokens }: TokenizeOptions & { readonly maxTokens?: number | undefined },
  ): Promise<Int32Array> {
    const tokens = await this.#model.tokenize(text, { parseSpecial, maxTokens });
    const { addBos, bosTokenId } = this.#model.info;
    if (!addSpecial || !addBos || bosTokenId === null) return tokens;
    const withBos = new Int32Array(tokens.length + 1);
    withBos[0] = bosTokenId;
    withBos.set(tokens, 1);
    return withBos;
  }

  /** Of one token, control tokens' too. */
  tokenBytes(tokenId: number): Uint8Array {
    return this.#model.tokenBytes(tokenId, { special: true });
  }

  async bytesOf(tokens: ArrayLike<number>): Promise<readonly Uint8Array[]> {
    await nextTurn(); // who has many asks for some at a time, and others get their turn between
    return Array.from(tokens, (tokenId) => this.tokenBytes(tokenId));
  }

  async applyTemplate(prompt: MessagesPrompt, signal: AbortSignal): Promise<string> {
    return await this.#model.renderChatTemplate(...this.#rendering(prompt, signal));
  }

  #rendering(prompt: MessagesPrompt, signal: AbortSignal): [readonly ChatMessage[], ApplyTemplateOptions] {
    const template = this.chatTemplate ?? '';
    const { messages, variables } = withTools(withToolsAsText(prompt.messages, template), prompt.toolUse, template);
    return [
      messages,
      {
        addGenerationPrompt: prompt.ending !== 'none',
        continueFinalMessage: prompt.ending === 'continue',
        variables: { ...templateVariables(template, prompt), ...variables },
        signal,
      },
    ];
  }

  #checkTokens(tokens: readonly number[]): void {
    const index = tokens.findIndex((tokenId) => tokenId >= this.vocabSize);
    if (index < 0) return;
    const range = `from 0 to ${this.vocabSize - 1}`;
    const message = `Token ${index} of the prompt must be a token of this model, ${range}, got ${tokens[index]}.`;
    throw new CtkvrError('CTKVR_INVALID_OPTION', message);
  }
}

function textOf(model: Model, tokenId: number | null): string {
  return tokenId === null ? '' : model.detokenize([tokenId], { special: true });
}
