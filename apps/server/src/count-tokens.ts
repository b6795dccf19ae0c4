/** POST /v1/messages/count_tokens: the tokens of the prompt that the same messages would be, without running the model. */
import type { Context } from 'hono';
import { countFields, countSchema } from './anthropic-fields.js';
import { anthropicPrompt } from './anthropic-messages.js';
import { toPrepareError } from './api-error.js';
import { checkBody } from './check-fields.js';
import { readJson } from './read-json.js';
import type { ServedModels } from './served-models.js';

export function countTokens({ models, maxBodyBytes }: { models: ServedModels; maxBodyBytes: number }) {
  return async (context: Context): Promise<Response> => {
    const given = checkBody(await readJson(context, maxBodyBytes), countFields, countSchema);
    const engine = models.find(given.model);
    const tokens = await engine.text
      .tokensOf(anthropicPrompt(given), context.req.raw.signal)
      .catch((error: unknown) => {
        throw toPrepareError(error, 'messages');
      });
    return context.json({ input_tokens: tokens.length });
  };
}
