/**
 * One line on stderr that is rewritten in place. Where stderr is no terminal: nothing, or a plain line as each stage begins, for commands
 * that a person waits for.
 */
import type { DownloadProgress } from '@ctkvr/model-runner';
import type { ConsoleIo } from './console-io.js';
import { formatBytes, formatCount, formatCounted, formatDuration } from './format.js';

const BAR_CELLS = 24;
/** Redraws are no more frequent than this. */
const REDRAW_MS = 80;
const ERASE_LINE = '\r\u001b[2K';

export interface ProgressState {
  readonly label: string;
  /** What the plain line says beside the label: how much there is to do, how long it will take. */
  readonly size?: string;
  /** 0 to 1; null while unknown. */
  readonly fraction: number | null;
  readonly detail: string;
}

export class ProgressLine {
  readonly #io: ConsoleIo;
  readonly #enabled: boolean;
  readonly #stages: boolean;
  #drawnAt = Number.NEGATIVE_INFINITY;
  #label = '';
  #visible = false;

  constructor(io: ConsoleIo, options: { readonly quiet?: boolean; readonly stages?: boolean } = {}) {
    this.#io = io;
    this.#enabled = io.stderr.isTTY === true && options.quiet !== true;
    this.#stages = io.stderr.isTTY !== true && options.stages === true;
  }

  /** Draws `state`, unless the last drawing of the same label was a moment ago. */
  show(state: ProgressState): void {
    if (this.#stages) this.#tellStage(state);
    if (!this.#enabled) return;
    const now = performance.now();
    if (state.label === this.#label && now - this.#drawnAt < REDRAW_MS && state.fraction !== 1) return;
    this.#label = state.label;
    this.#drawnAt = now;
    this.#visible = true;
    this.#io.stderr.write(ERASE_LINE + renderProgress(state, this.#io.stderr.columns || 80));
  }

  /** Takes the line away, so that what comes next starts on a clean one. */
  clear(): void {
    this.#label = '';
    if (!this.#visible) return;
    this.#visible = false;
    this.#io.stderr.write(ERASE_LINE);
  }

  #tellStage({ label, size }: ProgressState): void {
    if (label === this.#label) return;
    this.#label = label;
    this.#io.stderr.write(`${label}${size ? `, ${size}` : ''}\n`);
  }

  readonly onDownload = (progress: DownloadProgress): void => this.show(downloadState(progress));
}

/** Returns the line, never longer than the terminal is wide. */
export function renderProgress({ label, fraction, detail }: ProgressState, columns: number): string {
  const filled = Math.round((fraction ?? 0) * BAR_CELLS);
  const bar =
    fraction === null ? '' : ` [${'#'.repeat(filled)}${'-'.repeat(BAR_CELLS - filled)}] ${Math.floor(fraction * 100)}%`;
  return `${label}${bar}${detail ? `  ${detail}` : ''}`.slice(0, Math.max(0, columns - 1));
}

export function downloadState({ phase, name, bytesDone, bytesTotal, bytesPerSecond }: DownloadProgress): ProgressState {
  if (phase === 'waiting')
    return { label: `another process is fetching ${name}, waiting for it`, fraction: null, detail: '' };
  const verb = { download: 'fetching', extract: 'unpacking', verify: 'checking' }[phase];
  const label = `${verb} ${name}`;
  if (bytesTotal === null) return { label, fraction: null, detail: formatBytes(bytesDone) };
  const left = bytesPerSecond > 0 ? `  ${formatDuration(((bytesTotal - bytesDone) / bytesPerSecond) * 1000)} left` : '';
  const detail = `${formatBytes(bytesDone)} of ${formatBytes(bytesTotal)}  ${formatBytes(bytesPerSecond)}/s${left}`;
  const size = formatBytes(bytesTotal) + left.replace('  ', ', ');
  return { label, size, fraction: bytesTotal === 0 ? 1 : bytesDone / bytesTotal, detail };
}

/** The state of a prefill as the session reports it. */
export function prefillState(progress: {
  readonly tokensDone: number;
  readonly tokensTotal: number;
  readonly tokensPerSecond: number;
  readonly phase: 'prefill' | 'index';
}): ProgressState {
  const { tokensDone, tokensTotal, tokensPerSecond, phase } = progress;
  if (phase === 'index')
    return { label: 'building the index', fraction: null, detail: formatCounted(tokensTotal, 'token') };
  const left =
    tokensPerSecond > 0 ? `  ${formatDuration(((tokensTotal - tokensDone) / tokensPerSecond) * 1000)} left` : '';
  return {
    label: 'reading',
    size: formatCounted(tokensTotal, 'token') + left.replace('  ', ', '),
    fraction: tokensTotal === 0 ? 1 : tokensDone / tokensTotal,
    detail: `${formatCount(tokensDone)} of ${formatCounted(tokensTotal, 'token')}  ${formatCount(tokensPerSecond)} tokens/s${left}`,
  };
}
