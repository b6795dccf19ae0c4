/** The chat template of one model, and the process that renders it. */
import { CtkvrError } from '@ctkvr/core';
import type { NativeModel } from '@ctkvr/native';
import { ChatTemplate } from './chat-template.js';
import { TemplateRenderer } from './template-renderer.js';

export class ModelTemplate {
  /** Jinja source; null when there is none. */
  readonly source: string | null;
  readonly #native: NativeModel;
  readonly #renderer = new TemplateRenderer();
  #template: ChatTemplate | null = null;

  /** @param given Jinja source that replaces the GGUF's. */
  constructor(native: NativeModel, given: string | null) {
    this.#native = native;
    this.source = given ?? native.info.chatTemplate;
    if (this.source !== null) this.#renderer.start();
  }

  /** Returns the template. @throws {CtkvrError} CTKVR_INVALID_OPTION when the model has none. */
  get(): ChatTemplate {
    const { source } = this;
    const { info } = this.#native;
    if (source === null) {
      throw new CtkvrError('CTKVR_INVALID_OPTION', `the model ${info.name ?? info.path} has no chat template`, {
        fields: { option: 'chatTemplate' },
        remedy: 'prefill text or tokens, or pass chatTemplate to loadModel',
      });
    }
    this.#template ??= new ChatTemplate(
      {
        source,
        controlTokens: info.controlTokens,
        bosToken: this.#textOf(info.bosTokenId),
        eosToken: this.#textOf(info.eosTokenId),
      },
      this.#renderer,
    );
    return this.#template;
  }

  /** Ends the process. */
  close(): void {
    this.#renderer.close();
  }

  #textOf(tokenId: number | null): string {
    return tokenId === null ? '' : Buffer.from(this.#native.tokenBytes(tokenId, true)).toString('utf8');
  }
}
