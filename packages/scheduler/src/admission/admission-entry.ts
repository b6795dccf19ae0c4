/** One request in an admission: what it holds and what it wants. Internal to this package. */
import type { AdmissionRequest } from './admission-request.js';

export class AdmissionEntry {
  /** Rises with every arrival: who came first goes first. */
  readonly id: number;
  readonly #request: AdmissionRequest;
  readonly #pageSize: number;
  /** Tokens it wants to store, in whole pages. */
  wanted: number;
  /** Tokens it has room for. */
  #granted = 0;
  #bytes = 0;
  /** Whether it has been told to give its memory back and has not done so yet. */
  isPreempted = false;
  /** Whether it has been told to end. */
  isRefused = false;
  /** Whether its memory can be given back and computed again. */
  canBePreempted = true;

  constructor(id: number, request: AdmissionRequest, pageSize: number) {
    this.id = id;
    this.#request = request;
    this.#pageSize = pageSize;
    this.wanted = this.#wholePages(request.numTokens);
  }

  /** Bytes it has room for. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Whether it waits for room. */
  get isDeferred(): boolean {
    return this.wanted > this.#granted;
  }

  /** Bytes that are missing until it has what it wants and room for `more` tokens, as many of them as it can come to hold. */
  missingBytes(more = 0): number {
    const numTokens = Math.max(this.wanted, Math.min(this.#request.maxTokens, this.wanted + more));
    return Math.max(0, this.#request.bytesFor(this.#wholePages(numTokens)) - this.#bytes);
  }

  want(numTokens: number): void {
    this.wanted = Math.max(this.wanted, this.#wholePages(numTokens));
  }

  /** While it holds nothing it wants what it wanted. */
  withdraw(): void {
    if (this.#granted > 0) this.wanted = this.#granted;
  }

  grant(): void {
    this.#bytes += this.missingBytes();
    this.#granted = this.wanted;
  }

  release(): void {
    this.#granted = 0;
    this.#bytes = 0;
    this.isPreempted = false;
  }

  #wholePages(numTokens: number): number {
    const { maxTokens } = this.#request;
    return Math.min(Math.max(maxTokens, numTokens), Math.ceil(numTokens / this.#pageSize) * this.#pageSize);
  }
}
