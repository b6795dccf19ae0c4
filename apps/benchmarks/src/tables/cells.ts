/** Figures as the cells of a table. What was not measured is a dash. */

export const figure = (value: number | null | undefined): string => (value == null ? '-' : String(value));

export const percent = (share: number | null | undefined): string =>
  share == null ? '-' : `${Math.round(share * 100)} %`;

/** A share that may be small. */
export const precisePercent = (share: number | null | undefined): string =>
  share == null ? '-' : `${(share * 100).toFixed(1)} %`;

export const megabytes = (bytes: number | null | undefined): string =>
  bytes == null ? '-' : (bytes / 1e6).toFixed(bytes < 1e8 ? 1 : 0);

export const kl = (nats: number | null | undefined): string => (nats == null ? '-' : nats.toExponential(2));

/** Whose figure it is, with the peer's flash attention. */
export const contender = ({ name, flashAttention }: { name: string; flashAttention: boolean | null }): string =>
  name + (flashAttention === null ? '' : flashAttention ? ' +flash' : ' -flash');

/** With the limit that it is a share of. */
export const limitShare = (row: { shareOfLimit: number | null; limit?: string | null }): string =>
  row.shareOfLimit === null ? '-' : `${percent(row.shareOfLimit)}${row.limit ? ` ${row.limit}` : ''}`;
