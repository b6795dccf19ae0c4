/** GET routes about the server and its model: /v1/models, /health, /ready, /props. */
import type { Hono } from 'hono';
import type { ChatEngine } from './chat-engine.js';
import { defaultSampling } from './generation-request.js';
import type { RequestQueue } from './request-queue.js';
import type { ServedModels } from './served-models.js';

export function addStatusRoutes(app: Hono, { models, queue }: { models: ServedModels; queue: RequestQueue }): void {
  app.get('/v1/models', (context) => context.json({ object: 'list', data: models.all.map(toModel) }));
  app.get('/v1/models/:id{.+}', (context) => context.json(toModel(models.find(context.req.param('id')))));

  // Others may still answer when one has failed; `models` tells of each.
  const failure = () => (queue.closed ? 'stopping' : failureOfAll(models.all));
  const restarting = () => (models.all.some(({ state }) => state === 'restarting') ? 'restarting' : null);
  app.get('/health', (context) => {
    const { numRunning: running, numQueued: queued } = queue;
    const failed = failure();
    const status = failed ?? restarting() ?? 'ok'; // an engine that comes back by itself is no reason to end the server
    const { modelId: model, contextLength } = models.first;
    const states = models.all.map((engine) => ({ id: engine.modelId, state: engine.state ?? 'ready' }));
    return context.json({ status, model, contextLength, running, queued, models: states }, failed === null ? 200 : 503);
  });
  // For load balancers: unlike /health it also says no while a request would have to wait for the engine, or be refused.
  app.get('/ready', (context) => {
    const status = failure() ?? restarting() ?? (queue.isFull ? 'busy' : 'ready');
    return context.json({ status }, status === 'ready' ? 200 : 503);
  });

  // Of llama.cpp's answer, what means something here. Where the model's file lies is nobody's business.
  app.get('/props', async (context) => {
    const engine = models.find(context.req.query('model'));
    const { chatTemplate, bosToken, eosToken } = await engine.text.facts();
    return context.json({
      default_generation_settings: { n_ctx: engine.contextLength, params: llamaNames(defaultSampling) },
      total_slots: queue.maxRunning,
      model_alias: engine.modelId,
      chat_template: chatTemplate ?? '',
      bos_token: bosToken,
      eos_token: eosToken,
      modalities: { vision: false, audio: false },
      build_info: 'ctkvr',
    });
  });
}

function toModel({ modelId, createdAt, contextLength }: ChatEngine) {
  const length = { context_length: contextLength, max_model_len: contextLength }; // as OpenRouter and LM Studio name it; as vLLM does
  return {
    id: modelId,
    object: 'model',
    created: createdAt,
    owned_by: 'ctkvr',
    ...(contextLength === null ? {} : length),
  };
}

/** Null as long as one works. */
function failureOfAll(engines: readonly ChatEngine[]): string | null {
  const failures = engines.map(({ failure }) => failure ?? null);
  return failures.includes(null) ? null : failures[0]!;
}

function llamaNames(sampling: typeof defaultSampling) {
  return {
    temperature: sampling.temperature,
    top_k: sampling.topK,
    top_p: sampling.topP,
    typical_p: sampling.typicalP,
    min_p: sampling.minP,
    repeat_penalty: sampling.repeatPenalty,
    repeat_last_n: sampling.repeatWindow,
    frequency_penalty: sampling.frequencyPenalty,
    presence_penalty: sampling.presencePenalty,
    n_predict: -1, // as many as the context holds
  };
}
