/** The tokenizer and the chat template of a loaded model, as the routes need them. */
import type { Model } from '@ctkvr/model-runner';
import type { EngineText, TokenizeOptions } from './chat-engine.js';
import type { ChatMessage } from './chat-request.js';

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

  async tokenize(text: string, { addSpecial, parseSpecial }: TokenizeOptions): Promise<Int32Array> {
    const tokens = await this.#model.tokenize(text, { parseSpecial });
    const { addBos, bosTokenId } = this.#model.info;
    if (!addSpecial || !addBos || bosTokenId === null) return tokens;
    const withBos = new Int32Array(tokens.length + 1);
    withBos[0] = bosTokenId;
    withBos.set(tokens, 1);
    return withBos;
  }

  tokenBytes(tokenId: number): Uint8Array {
    return this.#model.tokenBytes(tokenId, { special: true });
  }

  applyTemplate(messages: readonly ChatMessage[], signal: AbortSignal): Promise<string> {
    return this.#model.renderChatTemplate(messages, { signal });
  }
}

function textOf(model: Model, tokenId: number | null): string {
  return tokenId === null ? '' : model.detokenize([tokenId], { special: true });
}
