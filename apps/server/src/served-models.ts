/** The engines of a server by the names that clients send. */
import { ApiError } from './api-error.js';
import type { ChatEngine } from './chat-engine.js';
import { shortened } from './shortened.js';

export class ServedModels {
  readonly all: readonly ChatEngine[];
  /** What a request without a name means. */
  readonly first: ChatEngine;

  /** @param engines one at least, each with a name of its own. */
  constructor(engines: ChatEngine | readonly ChatEngine[]) {
    this.all = 'prepare' in engines ? [engines] : engines;
    const [first] = this.all;
    if (first === undefined) throw new TypeError('a server needs an engine');
    this.first = first;
  }

  /** @param name none = the first. @throws {ApiError} 404 that says which there are. */
  find(name: string | undefined): ChatEngine {
    if (name === undefined) return this.first;
    const engine = this.all.find(({ modelId }) => modelId === name);
    if (engine !== undefined) return engine;
    const names = this.all.map(({ modelId }) => `'${modelId}'`).join(', ');
    throw new ApiError(404, `The model '${shortened(name)}' does not exist here; this server runs ${names}`, {
      param: 'model',
      code: 'model_not_found',
    });
  }
}
