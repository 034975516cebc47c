//! The record of changes: commands that make the same store again, as they go to the append-only file.

use super::reply::Reply;

/// Collects records until they are taken to be written. Without a file it is off, and collects none.
#[derive(Default)]
pub struct Journal {
    pub is_on: bool,
    /// A file is being read. It also says which keys have expired, so until its end no key does by itself.
    pub is_replaying: bool,
    records: Vec<u8>,
    /// The database that the last record was about.
    database: Option<usize>,
    /// The command that runs has made a record in place of its own words, which `call_on_keys` would record.
    pub has_own_record: bool,
}

impl Journal {
    /// Adds a record of a command in this database.
    pub fn record(&mut self, database: usize, arguments: &[&[u8]]) {
        if !self.is_on {
            return;
        }
        if self.database != Some(database) {
            self.database = Some(database);
            let mut digits = itoa::Buffer::new();
            self.write(&[b"SELECT", digits.format(database).as_bytes()]);
        }
        self.write(arguments);
    }

    /// Adds a record in place of the words of the command that runs, which would not do the same another time: for `EX
    /// 10` it says the moment.
    pub fn record_instead(&mut self, database: usize, arguments: &[&[u8]]) {
        self.has_own_record = true;
        self.record(database, arguments);
    }

    /// How many bytes of records wait to be taken.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Makes one transaction of the records behind so many bytes: a reader carries out all of them or none.
    pub fn make_transaction(&mut self, start: usize) {
        if self.len() > start {
            let records = self.records.split_off(start);
            self.write(&[b"MULTI"]);
            self.records.extend_from_slice(&records);
            self.write(&[b"EXEC"]);
        }
    }

    /// Takes the records.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.records)
    }

    fn write(&mut self, arguments: &[&[u8]]) {
        let mut writer = Reply::new(&mut self.records, 2);
        writer.array(arguments.len());
        arguments.iter().for_each(|argument| _ = writer.bulk(argument));
    }
}
