/** Told of what went wrong beside any request. */
export type Warn = (what: string, error: unknown) => void;
