//! The redo log: what makes a group durable before SQLite does.
//!
//! The statements of a group are noted down with their values. One record in this file, flushed once, makes them durable:
//! some kilobytes in a row, where SQLite's own log would take whole pages. SQLite's transaction stays open meanwhile and is
//! committed every now and then. After a crash, the records that SQLite does not have are run again.
//!
//! The table `redo` says whose the records are and how many of them SQLite has. Its holder is drawn anew whenever the file
//! begins anew, and every record names it, so that nothing old is taken for something new. Whoever appends has SQLite's
//! write lock and is the holder; whoever finds somebody else's name there takes over first.

use std::{
    error::Error,
    fs::File,
    io::{self, Read, Seek, Write},
    mem,
    path::Path,
};

use rusqlite::{
    Connection, Statement, ToSql, params_from_iter,
    types::{ToSqlOutput, ValueRef},
};

/// From this size on the file begins anew as soon as SQLite has what is in it, in bytes.
const FULL: usize = 8 << 20;

/// How much room is kept for the next record, in bytes.
const KEPT: usize = 256 << 10;

/// How many statements there can be.
const STATEMENTS: usize = 1 << u8::BITS;

/// What a note begins with.
const TEXT: u8 = 0;
const RUN: u8 = 1;

/// What a value begins with.
const NULL: u8 = 0;
const INTEGER: u8 = 1;
const REAL: u8 = 2;
const STRING: u8 = 3;
const BLOB: u8 = 4;

/// Whose the records are, and how many of them there are, or how many of them SQLite has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) holder: i64,
    pub(super) records: i64,
}

/// The file, and what is to become its next record. A record has the numbers and values of statements; a statement's text
/// stands before its first use, so that any later version can run it before it changes the schema.
#[derive(Debug)]
pub(super) struct RedoLog {
    file: File,
    position: Position,
    size: usize,
    notes: Vec<u8>,
    record: Vec<u8>,
    /// Whether the file has a statement's text.
    has_text: [bool; STATEMENTS],
}

impl Position {
    /// What SQLite has.
    pub(super) fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let mut statement = connection.prepare_cached("SELECT holder, applied FROM redo")?;
        statement.query_row([], |row| {
            Ok(Self {
                holder: row.get(0)?,
                records: row.get(1)?,
            })
        })
    }

    /// Commits SQLite's open transaction, which has everything up to here.
    pub(super) fn commit(self, connection: &Connection) -> rusqlite::Result<()> {
        let mut statement =
            connection.prepare_cached("UPDATE redo SET holder = ?1, applied = ?2")?;
        statement.execute([self.holder, self.records])?;
        connection.prepare_cached("COMMIT")?.execute([]).map(drop)
    }

    /// Commits SQLite's open transaction, which has everything, with a new holder.
    pub(super) fn commit_anew(connection: &Connection) -> rusqlite::Result<Self> {
        let sql = "UPDATE redo SET holder = random(), applied = 0 RETURNING holder";
        let holder = connection
            .prepare_cached(sql)?
            .query_row([], |row| row.get(0))?;
        connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(Self { holder, records: 0 })
    }
}

impl RedoLog {
    /// Opens the file, and makes it where there is none.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut options = File::options();
        options.read(true).write(true);
        let file = match options.clone().create_new(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(path)?,
            made => {
                let made = made?;
                keep_name(path)?;
                made
            }
        };
        Ok(Self {
            file,
            position: Position::default(),
            size: 0,
            notes: Vec::new(),
            record: Vec::new(),
            has_text: [false; STATEMENTS],
        })
    }

    /// The file, to be flushed.
    ///
    /// # Errors
    /// No more files can be open.
    pub(super) fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// How far it has come.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// Whether it is time to begin anew.
    pub(super) fn is_full(&self) -> bool {
        self.size >= FULL
    }

    /// Notes down that a statement was run with these values.
    ///
    /// # Errors
    /// A value cannot be noted down.
    pub(super) fn note(
        &mut self,
        number: u8,
        text: &str,
        values: &[&dyn ToSql],
    ) -> rusqlite::Result<()> {
        if let Some(has_text) = self.has_text.get_mut(usize::from(number))
            && !mem::replace(has_text, true)
        {
            self.notes.extend([TEXT, number]);
            put_bytes(&mut self.notes, text.as_bytes());
        }
        let count = u8::try_from(values.len()).unwrap_or(u8::MAX);
        self.notes.extend([RUN, number, count]);
        for value in values {
            match value.to_sql()? {
                ToSqlOutput::Borrowed(value) => put_value(&mut self.notes, value),
                ToSqlOutput::Owned(value) => put_value(&mut self.notes, (&value).into()),
                _ => return Err(rusqlite::Error::InvalidQuery),
            }
        }
        Ok(())
    }

    /// Forgets what was noted down since the last record.
    pub(super) fn discard(&mut self) {
        self.notes.clear();
        // Texts may have gone with it.
        self.has_text = [false; STATEMENTS];
    }

    /// Appends what was noted down as one record. It is durable once the file is flushed.
    ///
    /// # Errors
    /// It cannot be written; what was noted down is lost, and nobody holds the log.
    pub(super) fn append(&mut self) -> io::Result<()> {
        if self.notes.is_empty() {
            return Ok(());
        }
        let Position { holder, records } = self.position;
        let position = Position {
            holder,
            records: records + 1,
        };
        put_record(&mut self.record, position, &self.notes);
        self.notes.clear();
        self.notes.shrink_to(KEPT);
        if let Err(error) = self.file.write_all(&self.record) {
            self.position = Position::default();
            return Err(error);
        }
        self.position = position;
        self.size += self.record.len();
        self.record.shrink_to(KEPT);
        Ok(())
    }

    /// Runs again, in SQLite's open transaction, those records of a holder that SQLite does not have.
    ///
    /// # Errors
    /// The file cannot be read, or a statement cannot be run.
    pub(super) fn replay(
        &mut self,
        connection: &Connection,
        has: Position,
    ) -> Result<(), Box<dyn Error>> {
        let mut bytes = Vec::new();
        self.file.rewind()?;
        self.file.read_to_end(&mut bytes)?;
        let mut rest = bytes.as_slice();
        let mut statements = Vec::new();
        statements.resize_with(STATEMENTS, || None);
        let mut position = Position { records: 1, ..has };
        while let Some(notes) = take_record(&mut rest, position) {
            let run = position.records > has.records;
            take_notes(notes, connection, &mut statements, run)
                .map_err(|error| format!("redo log, record {}: {error}", position.records))?;
            position.records += 1;
        }
        Ok(())
    }

    /// Begins anew at a position that is on disk, together with all that the file has.
    ///
    /// # Errors
    /// The file cannot be begun anew; nobody holds the log then.
    pub(super) fn renew(&mut self, position: Position) -> io::Result<()> {
        self.position = Position::default();
        self.discard();
        self.file.rewind()?;
        self.position = position;
        self.size = 0;
        Ok(())
    }
}

/// Has a new file's name survive a loss of power, as well as what is in it (fsync(2), Notes).
fn keep_name(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

/// Its position, its length and its notes behind their checksum.
fn put_record(record: &mut Vec<u8>, position: Position, notes: &[u8]) {
    record.clear();
    let head = head(position, notes.len());
    record.extend(checksum(&head, notes).to_le_bytes());
    record.extend(head);
    record.extend(notes);
}

/// The notes of the next record, if it is whole and the one at this position.
fn take_record<'b>(rest: &mut &'b [u8], position: Position) -> Option<&'b [u8]> {
    let (sum, after) = rest.split_first_chunk()?;
    let (found, after) = after.split_first_chunk::<24>()?;
    let (_, length) = found.split_last_chunk()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (notes, after) = after.split_at_checked(length)?;
    let whole = *found == head(position, length) && checksum(found, notes).to_le_bytes() == *sum;
    *rest = after;
    whole.then_some(notes)
}

fn head(position: Position, length: usize) -> [u8; 24] {
    let mut head = [0; 24];
    let Position { holder, records } = position;
    let fields = [
        holder.cast_unsigned(),
        records.cast_unsigned(),
        length as u64,
    ];
    for (place, field) in head.chunks_exact_mut(8).zip(fields) {
        place.copy_from_slice(&field.to_le_bytes());
    }
    head
}

fn checksum(head: &[u8], notes: &[u8]) -> u32 {
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(head);
    checksum.update(notes);
    checksum.finalize()
}

fn put_bytes(notes: &mut Vec<u8>, bytes: &[u8]) {
    notes.extend((bytes.len() as u64).to_le_bytes());
    notes.extend(bytes);
}

fn put_value(notes: &mut Vec<u8>, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => notes.push(NULL),
        ValueRef::Integer(integer) => {
            notes.push(INTEGER);
            notes.extend(integer.to_le_bytes());
        }
        ValueRef::Real(real) => {
            notes.push(REAL);
            notes.extend(real.to_le_bytes());
        }
        ValueRef::Text(text) => {
            notes.push(STRING);
            put_bytes(notes, text);
        }
        ValueRef::Blob(blob) => {
            notes.push(BLOB);
            put_bytes(notes, blob);
        }
    }
}

/// Reads the notes of a record, and runs the statements if they are to be run.
fn take_notes<'c>(
    mut notes: &[u8],
    connection: &'c Connection,
    statements: &mut [Option<Statement<'c>>],
    run: bool,
) -> Result<(), Box<dyn Error>> {
    const CUT: &str = "it is cut short";
    while !notes.is_empty() {
        let [kind, number] = *take(&mut notes).ok_or(CUT)?;
        let statement = statements.get_mut(usize::from(number)).ok_or(CUT)?;
        if kind == TEXT {
            let text = str::from_utf8(take_bytes(&mut notes).ok_or(CUT)?)?;
            *statement = Some(connection.prepare(text)?);
            continue;
        }
        let [count] = *take(&mut notes).ok_or(CUT)?;
        let values: Vec<_> = (0..count)
            .map(|_| take_value(&mut notes).ok_or(CUT))
            .collect::<Result<_, _>>()?;
        if run {
            let statement = statement.as_mut().ok_or("it runs an unknown statement")?;
            let values = values.into_iter().map(ToSqlOutput::Borrowed);
            statement.execute(params_from_iter(values))?;
        }
    }
    Ok(())
}

fn take<'b, const N: usize>(notes: &mut &'b [u8]) -> Option<&'b [u8; N]> {
    let (taken, rest) = notes.split_first_chunk()?;
    *notes = rest;
    Some(taken)
}

fn take_bytes<'b>(notes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = usize::try_from(u64::from_le_bytes(*take(notes)?)).ok()?;
    let (bytes, rest) = notes.split_at_checked(length)?;
    *notes = rest;
    Some(bytes)
}

fn take_value<'b>(notes: &mut &'b [u8]) -> Option<ValueRef<'b>> {
    let [kind] = *take(notes)?;
    match kind {
        NULL => Some(ValueRef::Null),
        INTEGER => Some(ValueRef::Integer(i64::from_le_bytes(*take(notes)?))),
        REAL => Some(ValueRef::Real(f64::from_le_bytes(*take(notes)?))),
        STRING => Some(ValueRef::Text(take_bytes(notes)?)),
        BLOB => Some(ValueRef::Blob(take_bytes(notes)?)),
        _ => None,
    }
}
