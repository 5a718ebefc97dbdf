package crash

// Points lists every named place, so that a test can visit them all. A place that is here and is never reached fails
// that test.
func Points() []string {
	return []string{
		JournalFrozen, JournalBefore, JournalAfter, JournalTallies, GridFolded, FlushClosed, FlushBegun, FlushFenced,
		FlushCells, FlushRows, FlushCommitted, CheckpointBefore, CheckpointAfter, CompactCommitted, ProjectBefore,
		ImagePart, ImageBefore, ImageWritten, ImageRenamed, ImageClean, SealPersonal, SealMain, SegmentWritten,
		TrimBefore, TrimAfter, ControlBefore, ControlAfter, MinterWritten, MinterRenamed, SpoolWritten, SpoolDrained,
		SpoolRemoved,
	}
}

// CommitUnanswered is where a COMMIT that was carried out can be reported as failed.
const CommitUnanswered = "commit.unanswered"

// LaneLimping is where a lane that works can be taken for one that does not, so that a click goes to the spool.
const LaneLimping = "lane.limping"

// The places, in the order of an event's life.
const (
	JournalFrozen    = "journal.frozen"    // the bytes of a batch are fixed, nothing was sent
	JournalBefore    = "journal.before"    // just before a batch is appended
	JournalAfter     = "journal.after"     // a batch is durable, nobody was told
	JournalTallies   = "journal.tallies"   // tallies were taken off the lane, their batch was not sent
	GridFolded       = "grid.folded"       // a batch was folded
	FlushClosed      = "flush.closed"      // a generation was closed, the transaction has not begun
	FlushBegun       = "flush.begun"       // after BEGIN
	FlushFenced      = "flush.fenced"      // the position was moved, the rows are missing
	FlushCells       = "flush.cells"       // between the tables
	FlushRows        = "flush.rows"        // every row is in, before COMMIT
	FlushCommitted   = "flush.committed"   // after COMMIT, before the grid was told
	CheckpointBefore = "checkpoint.before" // before CHECKPOINT
	CheckpointAfter  = "checkpoint.after"  // after CHECKPOINT
	CompactCommitted = "compact.committed" // after a step of compaction
	ProjectBefore    = "project.before"    // before control records are projected into SQL
	ImagePart        = "image.part"        // after a part of an image
	ImageBefore      = "image.before"      // before the image itself
	ImageWritten     = "written.image"     // the image's temporary file is synced, not renamed
	ImageRenamed     = "renamed.image"     // renamed, the directory is not synced
	ImageClean       = "image.clean"       // before old images are removed
	SealPersonal     = "seal.personal"     // the personal part of a segment stands, the main part does not
	SealMain         = "seal.main"         // both parts stand, the grid was not told
	SegmentWritten   = "written.zst"       // a segment's temporary file is synced, not renamed
	TrimBefore       = "trim.before"       // before the journal is trimmed
	TrimAfter        = "trim.after"        // after it
	ControlBefore    = "control.before"    // before a control record is appended
	ControlAfter     = "control.after"     // a control record is durable, it is not in force yet
	MinterWritten    = "written.minter"    // the next minter number is synced, not renamed
	MinterRenamed    = "renamed.minter"    // renamed, nothing was minted with it
	SpoolWritten     = "spool.written"     // clicks are durable in the spool, nobody was told
	SpoolDrained     = "spool.drained"     // a spooled batch is durable in the journal, the spool was not told
	SpoolRemoved     = "spool.removed"     // a spool file is gone, its incarnation is not closed
)
