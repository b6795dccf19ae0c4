const whole = new Intl.NumberFormat('en');

export function count(n: number): string {
  return whole.format(Math.round(n));
}

/** A share, 0 to 1, in percent; small ones are not told as nothing. */
export function percent(share: number): string {
  return share > 0 && share < 0.01 ? '< 1 %' : `${Math.round(share * 100)} %`;
}
