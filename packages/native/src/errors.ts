/**
 * Turns what the native binary throws into `CtkvrError`. The Rust side sends every error as an Error whose message is JSON
 * `{ code, message, fields }`; anything else (a caught panic, an argument of a wrong JavaScript type) is a bug of ours or of the caller.
 */
import { CtkvrError, type CtkvrErrorCode, type CtkvrErrorFields } from '@ctkvr/core';

/** Status texts that napi itself sets when an argument cannot be converted. */
const argumentStatuses = new Set([
  'InvalidArg',
  'ObjectExpected',
  'StringExpected',
  'NumberExpected',
  'BooleanExpected',
  'ArrayExpected',
  'FunctionExpected',
  'ArrayBufferExpected',
]);

/** Returns the `CtkvrError` for anything thrown by the binding; a `CtkvrError` comes back as it is. */
export function mapNativeError(error: unknown): CtkvrError {
  if (CtkvrError.isInstance(error)) return error;
  const { message, status } = describe(error);
  const parsed = parse(message);
  if (parsed !== null) return new CtkvrError(parsed.code, parsed.message, { fields: parsed.fields, cause: error });
  if (argumentStatuses.has(status)) {
    return new CtkvrError('CTKVR_INVALID_OPTION', `the native engine refused an argument: ${message}`, {
      cause: error,
    });
  }
  return new CtkvrError('CTKVR_INTERNAL', `the native engine failed unexpectedly: ${message}`, { cause: error });
}

function describe(error: unknown): { message: string; status: string } {
  if (!(error instanceof Error)) return { message: String(error), status: '' };
  return { message: error.message, status: String((error as { code?: unknown }).code ?? '') };
}

function parse(text: string): { code: CtkvrErrorCode; message: string; fields: CtkvrErrorFields } | null {
  if (!text.startsWith('{')) return null;
  try {
    const value = JSON.parse(text) as { code?: unknown; message?: unknown; fields?: unknown };
    if (typeof value.code !== 'string' || typeof value.message !== 'string') return null;
    const fields = typeof value.fields === 'object' && value.fields !== null ? value.fields : {};
    return { code: value.code as CtkvrErrorCode, message: value.message, fields: fields as CtkvrErrorFields };
  } catch {
    return null;
  }
}
