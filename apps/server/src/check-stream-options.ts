/** How an answer is sent, as the two protocols of completions say it. */
import { ApiError } from './api-error.js';
import type { RequestValues } from './request-fields.js';

/** @throws {ApiError} 400 */
export function checkStreamOptions({
  stream = false,
  stream_options,
}: Pick<RequestValues, 'stream' | 'stream_options'>) {
  if (stream_options !== undefined && !stream) {
    throw new ApiError(400, "'stream_options' cannot be honoured: it is only allowed together with stream: true", {
      param: 'stream_options',
      code: 'invalid_value',
    });
  }
  return { stream, includeUsage: stream_options?.include_usage ?? false };
}
