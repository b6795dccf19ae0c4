/**
 * What the server tells Prometheus, under vLLM's names with our prefix, for dashboards and gateways that know those.
 * Names and meanings: docs/guide/server.md.
 */
import { Gauge, Registry } from 'prom-client';
import type { RequestQueue } from '../request-queue.js';
import type { ServedModels } from '../served-models.js';
import { type Families, makeFamilies } from './families.js';
import { RequestRecord } from './request-record.js';

export interface MeasuredServer {
  readonly models: ServedModels;
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
function addGauges(registry: Registry, { models, queue }: MeasuredServer): void {
  const gauge = (name: string, help: string, collect: (gauge: Gauge<'model_name'>) => void | Promise<void>) =>
    new Gauge({
      name: `ctkvr:${name}`,
      help,
      labelNames: ['model_name'],
      registers: [registry],
      collect() {
        return collect(this);
      },
    });
  // One queue for all models: with several, its length is none's.
  const model_name = models.all.length === 1 ? models.first.modelId : '';
  gauge('num_requests_running', 'Requests that run', (to) => to.set({ model_name }, queue.numRunning));
  gauge('num_requests_waiting', 'Requests that wait for a slot', (to) => to.set({ model_name }, queue.numQueued));
  gauge(
    'kv_cache_usage_perc',
    'Share of the memory for keys, values and indexes that running requests hold, 0 to 1',
    async (to) => {
      to.reset(); // a model that is unloaded holds none
      for (const engine of models.all) {
        const memory = await engine.memory?.();
        if (memory != null) to.set({ model_name: engine.modelId }, memory.usedBytes / memory.maxBytes);
      }
    },
  );
}
