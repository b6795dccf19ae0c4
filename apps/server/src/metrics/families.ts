/** The counters and histograms that requests add to. The labels: the model's name, and the caller's (the name of its API key). */
import { Counter, Histogram, type Registry } from 'prom-client';

/** Seconds, as vLLM has them. */
const firstTokenBuckets = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560,
];
const betweenTokensBuckets = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
];
const requestBuckets = [0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680];
const keyBuckets = [256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072];
const massBuckets = [0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999, 1];

export function makeFamilies(registry: Registry) {
  const registers = [registry];
  const counter = <Label extends string>(name: string, help: string, ...labels: Label[]) =>
    new Counter({ name: `ctkvr:${name}`, help, labelNames: ['model_name', 'caller', ...labels], registers });
  const histogram = (name: string, help: string, buckets: number[]) =>
    new Histogram({ name: `ctkvr:${name}`, help, labelNames: ['model_name'], buckets, registers });
  return {
    promptTokens: counter('prompt_tokens_total', 'Tokens of prompts that were read, from the prefix cache too'),
    generatedTokens: counter('generation_tokens_total', 'Tokens of answers'),
    prefixQueries: counter('prefix_cache_queries_total', 'Tokens of prompts that the prefix cache was asked for'),
    prefixHits: counter('prefix_cache_hits_total', 'Tokens of prompts that the prefix cache had'),
    successes: counter('request_success_total', 'Requests that ended, by why', 'finished_reason'),
    failures: counter(
      'request_failure_total',
      'Requests that were refused or failed, by the code of the error',
      'code',
    ),
    firstToken: histogram(
      'time_to_first_token_seconds',
      'From the coming of a request to the first text of its answer',
      firstTokenBuckets,
    ),
    betweenTokens: histogram(
      'inter_token_latency_seconds',
      'Between two pieces of an answer, which are nearly always tokens',
      betweenTokensBuckets,
    ),
    wholeRequest: histogram('e2e_request_latency_seconds', 'From the coming of a request to its end', requestBuckets),
    queueTime: histogram('request_queue_time_seconds', 'From the coming of a request to its start', requestBuckets),
    keysRead: histogram('keys_read_per_head', 'Keys that the last step of an answer read per KV head', keyBuckets),
    attentionMass: histogram(
      'attention_mass',
      'Attention mass that the last step of an answer read exactly, as it estimates it, 0 to 1',
      massBuckets,
    ),
  };
}

export type Families = ReturnType<typeof makeFamilies>;
