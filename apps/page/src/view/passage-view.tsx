import { Component } from 'preact';

interface PassageProps {
  /** Number in the document. */
  readonly passage: number;
  readonly text: string;
  /** 0 to HEAT_LEVELS. */
  readonly level: number;
  /** Whether the reader was led here. */
  readonly isWanted: boolean;
}

/** One passage. A long document has thousands, of which a movement of the pointer changes few. */
export class PassageView extends Component<PassageProps> {
  override shouldComponentUpdate(next: PassageProps): boolean {
    return next.level !== this.props.level || next.isWanted !== this.props.isWanted;
  }

  override render({ passage, text, level, isWanted }: PassageProps) {
    const look = `${level > 0 ? `heat-${level}` : ''}${isWanted ? ' wanted' : ''}`;
    return (
      <span data-passage={passage} tabIndex={-1} class={look}>
        {text}
      </span>
    );
  }
}
