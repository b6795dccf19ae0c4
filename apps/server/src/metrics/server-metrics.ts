/**
 * What the server tells Prometheus, under vLLM's names with our prefix, for dashboards and gateways that know those.
 * Names and meanings: docs/guide/server.md.
 */
import { Gauge, Registry } from 'prom-client';
import type { ChatEngine } from '../chat-engine.js';
import type { RequestQueue } from '../request-queue.js';
import { type Families, makeFamilies } from './families.js';
import { RequestRecord } from './request-record.js';

export interface MeasuredServer {
  readonly engine: ChatEngine;
  readonly queue: RequestQueue;
}

export class ServerMetrics {
  readonly #registry = new Registry();
  readonly #families: Families;

  constructor(server: MeasuredServer) {
    addGauges(this.#registry, server);
    this.#families = makeFamilies(this.#registry);
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** In Prometheus' text format. */
  async page(): Promise<string> {
    return await this.#registry.metrics();
  }

  /** To be called when a request comes. */
  begin(from: { readonly model: string; readonly caller: string }): RequestRecord {
    return new RequestRecord(this.#families, { model_name: from.model, caller: from.caller });
  }
}

/** Asked when somebody looks. */
function addGauges(registry: Registry, { engine, queue }: MeasuredServer): void {
  const gauge = (name: string, help: string, value: () => number | null) =>
    new Gauge({
      name: `ctkvr:${name}`,
      help,
      labelNames: ['model_name'],
      registers: [registry],
      collect() {
        const now = value();
        if (now !== null) this.set({ model_name: engine.modelId }, now);
      },
    });
  gauge('num_requests_running', 'Requests that run', () => queue.numRunning);
  gauge('num_requests_waiting', 'Requests that wait for a slot', () => queue.numQueued);
  gauge(
    'kv_cache_usage_perc',
    'Share of the memory for keys, values and indexes that running requests hold, 0 to 1',
    () => (engine.memory == null ? null : engine.memory.usedBytes / engine.memory.maxBytes),
  );
}
