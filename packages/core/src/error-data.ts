/** Errors as plain data, to cross from one process to another. */
import { CtkvrError, type CtkvrErrorCode, type CtkvrErrorFields } from './errors.js';

export interface ErrorData {
  readonly name: string;
  /** Of a CtkvrError without its remedy. */
  readonly message: string;
  /** Where it was thrown, in its own process. */
  readonly stack: string | null;
  /** What a CtkvrError has more than others; null for every other error. */
  readonly ctkvr: {
    readonly code: CtkvrErrorCode;
    readonly fields: CtkvrErrorFields;
    readonly remedy: string | null;
  } | null;
  readonly cause: ErrorData | null;
}

/** Causes may refer to each other in a circle. */
const MAX_CAUSES = 4;

/** Anything that was thrown. Own properties are kept of a CtkvrError only. */
export function toErrorData(error: unknown, maxCauses = MAX_CAUSES): ErrorData {
  if (!(error instanceof Error) && !CtkvrError.isInstance(error)) {
    return { name: 'Error', message: String(error), stack: null, ctkvr: null, cause: null };
  }
  const { name, message, stack = null, cause } = error;
  const hasCause = cause !== undefined && cause !== null && maxCauses > 0;
  const common = { name, stack, cause: hasCause ? toErrorData(cause, maxCauses - 1) : null };
  if (!CtkvrError.isInstance(error)) return { ...common, message, ctkvr: null };
  const { code, fields, remedy } = error;
  return { ...common, message: withoutRemedy(message, remedy), ctkvr: { code, fields, remedy } };
}

/** The error again: a CtkvrError with its code, fields and remedy, or an Error with its name. Its stack is the one it had. */
export function fromErrorData({ name, message, stack, ctkvr, cause: causeData }: ErrorData): Error {
  const cause = causeData === null ? undefined : fromErrorData(causeData);
  const error =
    ctkvr === null
      ? Object.assign(new Error(message, cause === undefined ? undefined : { cause }), { name })
      : new CtkvrError(ctkvr.code, message, {
          fields: ctkvr.fields,
          cause,
          ...(ctkvr.remedy === null ? {} : { remedy: ctkvr.remedy }),
        });
  if (stack !== null) error.stack = stack;
  return error;
}

function withoutRemedy(message: string, remedy: string | null): string {
  return remedy === null ? message : message.slice(0, -`; ${remedy}`.length);
}
