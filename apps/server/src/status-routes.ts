/** GET routes about the server and its model: /v1/models, /health, /ready, /props. */
import type { Hono } from 'hono';
import type { ChatEngine } from './chat-engine.js';
import { checkModel } from './check-model.js';
import { defaultSampling } from './generation-request.js';
import type { RequestQueue } from './request-queue.js';

export function addStatusRoutes(app: Hono, { engine, queue }: { engine: ChatEngine; queue: RequestQueue }): void {
  const { modelId, contextLength } = engine;
  const model = {
    id: modelId,
    object: 'model',
    created: engine.createdAt,
    owned_by: 'ctkvr',
    context_length: contextLength, // as OpenRouter and LM Studio name it
    max_model_len: contextLength, // as vLLM does
  };
  app.get('/v1/models', (context) => context.json({ object: 'list', data: [model] }));
  app.get('/v1/models/:id{.+}', (context) => {
    checkModel(context.req.param('id'), modelId);
    return context.json(model);
  });

  const failure = () => (queue.closed ? 'stopping' : (engine.failure ?? null));
  app.get('/health', (context) => {
    const { numRunning: running, numQueued: queued } = queue;
    const status = failure() ?? 'ok';
    return context.json({ status, model: modelId, contextLength, running, queued }, status === 'ok' ? 200 : 503);
  });
  // For load balancers: unlike /health it also says no while a request would be refused because too many wait.
  app.get('/ready', (context) => {
    const status = failure() ?? (queue.isFull ? 'busy' : 'ready');
    return context.json({ status }, status === 'ready' ? 200 : 503);
  });

  // Of llama.cpp's answer, what means something here. Where the model's file lies is nobody's business.
  app.get('/props', (context) =>
    context.json({
      default_generation_settings: { n_ctx: contextLength, params: llamaNames(defaultSampling) },
      total_slots: queue.maxRunning,
      model_alias: modelId,
      chat_template: engine.text.chatTemplate ?? '',
      bos_token: engine.text.bosToken,
      eos_token: engine.text.eosToken,
      modalities: { vision: false, audio: false },
      build_info: 'ctkvr',
    }),
  );
}

function llamaNames(sampling: typeof defaultSampling) {
  return {
    temperature: sampling.temperature,
    top_k: sampling.topK,
    top_p: sampling.topP,
    min_p: sampling.minP,
    repeat_penalty: sampling.repeatPenalty,
    repeat_last_n: sampling.repeatWindow,
    frequency_penalty: sampling.frequencyPenalty,
    presence_penalty: sampling.presencePenalty,
    n_predict: -1, // as many as the context holds
  };
}
