/**
 * The error every CTkvr package throws: one class with a stable code, and fields that carry the numbers of the message.
 * Checks go through `CtkvrError.isInstance`, not `instanceof`: two installed copies of this package must recognise each other's errors.
 */
const marker = Symbol.for('ctkvr.error');

/** Every code a CTkvr package can throw. Codes are stable; messages may change. */
export type CtkvrErrorCode =
  | 'CTKVR_INVALID_OPTION' // an option has a wrong type, is out of range, or is unknown
  | 'CTKVR_SHAPE_MISMATCH' // a buffer's length disagrees with the shape it was given with
  | 'CTKVR_NON_FINITE' // NaN or infinity where a number is needed
  | 'CTKVR_FILE_NOT_FOUND'
  | 'CTKVR_FILE_UNREADABLE' // permission, a directory, a binary where a text is needed
  | 'CTKVR_OUTPUT_FAILED' // an output that cannot be written: a closed descriptor, a device that fails
  | 'CTKVR_NOT_GGUF' // empty, or no GGUF magic
  | 'CTKVR_CORRUPT_GGUF' // truncated, or sizes in the header that disagree with the file
  | 'CTKVR_BAD_INDEX_IMAGE' // a saved index that is damaged, of another kind, or written by a newer version
  | 'CTKVR_BAD_SNAPSHOT' // a saved sequence that is damaged, of another version, of another model or of other settings
  | 'CTKVR_UNSUPPORTED_MODEL' // an architecture or tensor type we do not run
  | 'CTKVR_UNKNOWN_MODEL' // a name that is in no catalogue
  | 'CTKVR_DOWNLOAD_FAILED'
  | 'CTKVR_CHECKSUM_MISMATCH'
  | 'CTKVR_CONTEXT_EXCEEDED' // the prompt (and what is to be generated) does not fit in the context
  | 'CTKVR_OUT_OF_MEMORY' // refused before allocation
  | 'CTKVR_DISK_FULL'
  | 'CTKVR_GRAMMAR_FAILED' // an answer's grammar is too complex: the next tokens cannot be found within limits
  | 'CTKVR_CLOSED' // used after close()
  | 'CTKVR_BUSY' // the object already runs an operation that excludes this one
  | 'CTKVR_OVERLOADED' // others are ahead, and as many wait as may
  | 'CTKVR_ABORTED' // cancelled through an AbortSignal
  | 'CTKVR_NATIVE_UNAVAILABLE' // the native binary could not be loaded
  | 'CTKVR_DEVICE_UNAVAILABLE' // no driver, no such device, or nothing in this build for it
  | 'CTKVR_DEVICE_LOST' // a kernel trapped or the device is gone: what was on it is lost, the model is to be loaded again
  | 'CTKVR_ENGINE_LOST' // the process that a model runs in ended: what it was doing is lost, and it is started again
  | 'CTKVR_ENGINE_FAILED' // the same, too often in a row: it is not started again
  | 'CTKVR_INTERNAL'; // a bug of ours: a native panic, a broken invariant

/** Numbers and names behind a message, for programs. */
export type CtkvrErrorFields = Readonly<Record<string, string | number | boolean | null>>;

export class CtkvrError extends Error {
  readonly code: CtkvrErrorCode;
  /** What the message says, as data: for example `{ expected: 8192, actual: 9001 }`. */
  readonly fields: CtkvrErrorFields;
  /** What to do, the end of the message. Set where it names options or functions, which only a programmer can use. */
  readonly remedy: string | null;

  /** @param problem the message; a `remedy` is put behind it. */
  constructor(
    code: CtkvrErrorCode,
    problem: string,
    options: { fields?: CtkvrErrorFields; cause?: unknown; remedy?: string } = {},
  ) {
    const { fields = {}, cause, remedy = null } = options;
    super(remedy === null ? problem : `${problem}; ${remedy}`, cause === undefined ? undefined : { cause });
    // The platform's name for it: code that handles cancellation looks at the name.
    this.name = code === 'CTKVR_ABORTED' ? 'AbortError' : 'CtkvrError';
    this.code = code;
    this.fields = fields;
    this.remedy = remedy;
    Object.defineProperty(this, marker, { value: true });
  }

  static isInstance(value: unknown): value is CtkvrError {
    return typeof value === 'object' && value !== null && (value as Record<symbol, unknown>)[marker] === true;
  }
}
